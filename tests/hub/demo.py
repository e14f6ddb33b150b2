"""The way of a student after its training, one step after the other, on a Hub of this machine.

    python tests/hub/server.py python tests/hub/demo.py runs/quickstart/student assets/squad/dev-v1.1.json

Every step is a process of its own, started as a user would start it.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

REPO = "user/minilm-t3-squad"
CONTEXT = (
    "The Rhine begins in the Swiss canton of Graubünden in the southeastern Swiss Alps and empties into the North Sea "
    "in the Netherlands. It is about 1,230 km long. The Romans called it Rhenus."
)
QUESTIONS = (
    "Where does the Rhine begin?",
    "How long is the Rhine?",
    "What did the Romans call the Rhine?",
)
# Somebody who has transformers and not this package.
STRANGER = f"""
import sys
sys.modules["itrd_nlp"] = None  # importing it would fail
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer
model = AutoModelForQuestionAnswering.from_pretrained({REPO!r})
tokenizer = AutoTokenizer.from_pretrained({REPO!r})
inputs = tokenizer({QUESTIONS[0]!r}, {CONTEXT!r}, return_tensors="pt", truncation=True, max_length=384)
with torch.inference_mode():
    output = model(**inputs)
span = slice(int(output.start_logits.argmax()), int(output.end_logits.argmax()) + 1)
answer = tokenizer.decode(inputs["input_ids"][0, span])
print(f"downloaded {{model.num_parameters():,}} parameters; the answer: {{answer!r}}")
"""

console = Console(highlight=False)


def step(title: str, command: list[str], *, cwd: Path, shown: str | None = None) -> None:
    console.rule(f"[bold]{title}", align="left")
    console.print(f"$ {shown or shlex.join(command)}", style="dim", markup=False, soft_wrap=True)
    subprocess.run(command, check=True, cwd=cwd)


def main() -> None:
    student, dev = (Path(argument).absolute() for argument in sys.argv[1:3])
    here = Path.cwd()
    itrd_nlp = str(Path(sys.executable).with_name("itrd-nlp"))
    model = str(student.relative_to(here) if student.is_relative_to(here) else student)
    push = [itrd_nlp, "push-to-hub", "--model", model, "--repo_id", REPO]
    with tempfile.TemporaryDirectory() as scratch:
        elsewhere = Path(scratch)
        pairs = elsewhere / "questions.jsonl"
        pairs.write_text(
            "".join(json.dumps({"question": q, "context": CONTEXT}) + "\n" for q in QUESTIONS)
        )
        step("Push the student, and nothing else", push, cwd=here)
        step("Push it again: nothing has changed", push, cwd=here)
        step(
            "A process without this package downloads it",
            [sys.executable, "-c", STRANGER],
            cwd=elsewhere,
            shown='python -c "...AutoModelForQuestionAnswering.from_pretrained(...)"',
        )
        predict = [itrd_nlp, "predict", "--model", REPO, "--input", pairs.name]
        step("Three questions, in a clean process", predict, cwd=elsewhere)
    export = [itrd_nlp, "export-onnx", "--model", model, "--validation_file", str(dev)]
    step("Export to ONNX and int8", [*export, "--max_eval_samples", "200"], cwd=here)
    step("Write the report", [itrd_nlp, "report", model], cwd=here)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {shlex.join(error.cmd[:2])} ... ended with {error.returncode}")
