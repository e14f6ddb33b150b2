"""Measure `load_pipeline`: questions per second by batch size, and the memory that a stream of long contexts takes.

    python -m benchmarks.answering [--rounds 3] [--output benchmarks/answering.json]

| candidate | what runs |
|---|---|
| loop | transformers alone: one question at a time, of which the best start and the best end are taken |
| one | `load_pipeline` with one question a call |
| batched | `load_pipeline` with all questions in one call and windows in batches of like length |
| bf16 | the same with weights in bfloat16 |
| stream | `load_pipeline` over a generator of long contexts, for its memory |

The questions are the first ones of SQuAD's dev set. The model has random weights and the shape of a student of three
layers of MiniLM, or of six layers of BERT-base, in fp32 where the table does not say bfloat16. The stream takes a tiny
model, because its memory is that of the texts and windows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import median, ratio, take_turns
from itrd_nlp.cli import parser, process

CANDIDATES = ("loop", "one", "batched", "bf16")
LAYERS = {"minilm": 3, "bert": 6}
VALIDATION_FILE = "assets/squad/dev-v1.1.json"
TOKENIZER = "assets/minilm-l6"


@dataclass
class AnsweringArguments:
    """Options of this command."""

    questions: int = field(default=200, metadata={"help": "Questions of a measurement."})
    shape: str = field(
        default="minilm",
        metadata={"help": "Size of the student's teacher.", "choices": list(LAYERS)},
    )
    batch_size: int = field(default=32, metadata={"help": "Windows of a batch."})
    contexts: int = field(default=10_000, metadata={"help": "Long contexts of the stream."})
    words: int = field(default=600, metadata={"help": "Words of a long context."})
    rounds: int = field(default=3, metadata={"help": "Processes for each candidate."})
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )
    worker: str | None = field(
        default=None,
        metadata={
            "help": "Measure only this candidate, in this process.",
            "choices": [*CANDIDATES, "stream"],
        },
    )


def saved_model(folder: str, shape: str, layers: int) -> None:
    """Save a model of random weights with the tokenizer."""
    from benchmarks.training import random_models
    from itrd_nlp.models.loading import load_tokenizer
    from itrd_nlp.models.options import LoadingArguments

    _, student = random_models(shape, layers, attention="sdpa")
    student.save_pretrained(folder)
    load_tokenizer(TOKENIZER, LoadingArguments()).save_pretrained(folder)


def loop_of_transformers(folder: str) -> Callable[[list[dict[str, str]]], int]:
    """Load the tokenizer and the model. The function answers by them alone, one question after the other."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    from benchmarks.training import device

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForQuestionAnswering.from_pretrained(folder).to(device()).eval()

    def answer(rows: list[dict[str, str]]) -> int:
        answers = 0
        for row in rows:
            inputs = tokenizer(
                row["question"],
                row["context"],
                truncation="only_second",
                max_length=384,
                return_tensors="pt",
            ).to(device())
            with torch.inference_mode():
                output = model(**inputs)
            start, end = int(output.start_logits.argmax()), int(output.end_logits.argmax())
            answers += isinstance(tokenizer.decode(inputs["input_ids"][0, start : end + 1]), str)
        return answers

    return answer


def measure(args: AnsweringArguments, candidate: str) -> dict[str, float]:
    """Measure one candidate in this process."""
    from benchmarks.training import peak_megabytes
    from itrd_nlp.tasks.question_answering import read_squad

    stream = candidate == "stream"
    with tempfile.TemporaryDirectory() as folder:
        saved_model(folder, *(("tiny", 1) if stream else (args.shape, LAYERS[args.shape])))
        if stream:
            return _memory(_pipeline(folder, args, candidate), args)
        examples = read_squad(VALIDATION_FILE, split="validation", max_samples=args.questions)
        rows = [{"question": row["question"], "context": row["context"]} for row in examples]
        answer = answering(folder, args, candidate)
        for part in (rows[:32], rows):  # the first part warms up
            began = time.perf_counter()
            answered = answer(part)
            seconds = time.perf_counter() - began
    return {"questions_per_second": answered / seconds, "peak_megabytes": peak_megabytes()}


def answering(
    folder: str, args: AnsweringArguments, candidate: str
) -> Callable[[list[dict[str, str]]], int]:
    """Load what a candidate needs, so that no clock runs meanwhile. The function returns the number of answers."""
    if candidate == "loop":
        return loop_of_transformers(folder)
    qa = _pipeline(folder, args, candidate)
    if candidate == "one":
        return lambda rows: len([qa(row, batch_size=1) for row in rows])
    return lambda rows: len(qa(rows))


def _pipeline(folder: str, args: AnsweringArguments, candidate: str) -> Any:
    from itrd_nlp import load_pipeline

    dtype = "bfloat16" if candidate == "bf16" else "float32"
    return load_pipeline(folder, batch_size=args.batch_size, dtype=dtype)


def _memory(qa: Any, args: AnsweringArguments) -> dict[str, float]:
    """Return the growth of this process over a stream, after a tenth of it and at its end."""
    from benchmarks.losses import status_megabytes

    def rows() -> Iterator[dict[str, str]]:
        for number in range(args.contexts):
            context = f"word{number % 97} " * args.words
            yield {"question": "Which word is it?", "context": context}

    before = status_megabytes("VmRSS")
    answers = iter(qa(rows(), max_length=64, doc_stride=0))
    found: dict[str, float] = {}
    for number, _ in enumerate(answers, start=1):
        if number == args.contexts // 10:
            found["megabytes_after_a_tenth"] = status_megabytes("VmRSS") - before
    return {**found, "megabytes": status_megabytes("VmRSS") - before}


def main() -> None:
    (args,) = parser.parse([AnsweringArguments], description=__doc__)
    if args.worker is not None:
        print(json.dumps(measure(args, args.worker)))
        return
    from rich.console import Console
    from rich.table import Table

    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    workers = {name: [*sys.argv[1:], "--worker", name] for name in CANDIDATES}
    runs = take_turns("answering", workers, args.rounds)
    (stream,) = take_turns("answering", {"stream": [*sys.argv[1:], "--worker", "stream"]}, 1)[
        "stream"
    ]
    ratios = {
        f"{name} / {other}": ratio(runs[name], runs[other], "questions_per_second")
        for name, other in (("batched", "loop"), ("batched", "one"), ("bf16", "loop"))
    }
    table = Table(
        "", "questions/s", "MB", title=f"{args.questions} questions, median of {args.rounds}"
    )
    for name, found in runs.items():
        figures = (median(found, key) for key in ("questions_per_second", "peak_megabytes"))
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
    for name, over in ratios.items():
        table.add_row(name, f"x {over['median']:.2f}", "")
    Console().print(table)
    Console().print(f"a stream of {args.contexts} contexts of {args.words} words: {stream}")
    if args.output is not None:
        content = {"arguments": vars(args), "ratios": ratios, "runs": runs, "stream": stream}
        write_json(Path(args.output), content | {"environment": environment()})


if __name__ == "__main__":
    process.run(main)
