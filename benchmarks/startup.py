"""Measure the start of the commands: help, and the time from the command to the first step of the optimizer.

    python benchmarks/startup.py --output benchmarks/startup.json

The figures are seconds of CPU time, which other work on the machine changes less than the time of the clock. A command
that waits for nothing takes about as long by the clock. Models and data are tiny and on the disk, so that the first
step shows what imports, reading and setting up take. The median of the rounds counts.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itrd_nlp.cli import parser, process

ROOT = Path(__file__).parents[1]
HELP = ("distil", "train-squad", "fine-tune", "evaluate", "predict", "compare", "push-to-hub")

# transformers imports these wherever they are installed. Those who install requirements.txt have none of them.
OPTIONAL = ("peft", "bitsandbytes", "torchao")

FIRST_STEP = f"""
import os, sys
sys.modules.update(dict.fromkeys({OPTIONAL}))
import torch
def step(self, *args, **kwargs):
    print("the first step", flush=True)
    os._exit(0)
torch.optim.AdamW.step = step
sys.argv = ["itrd-nlp train-squad", "student.yaml"]
from itrd_nlp.cli.main import run_command
run_command("train-squad")
"""

CONFIG = """
teacher: teacher
num_layers: 2
train_file: train.json
validation_file: train.json
max_length: 64
doc_stride: 16
max_steps: 1
output_dir: student
report_to: none
save_strategy: 'no'
"""


@dataclass
class StartupArguments:
    """Options of this command."""

    output: str | None = field(default=None, metadata={"help": "JSON file for the figures."})
    rounds: int = field(default=3, metadata={"help": "Number of times that each is measured."})


def cpu_seconds(command: list[str], folder: Path | None = None) -> float:
    """Run a command and return the seconds of CPU time that it took.

    Args:
        command: the command. It must succeed and print something.
        folder: where it runs. Default: the current folder.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_files(folder: Path) -> None:
    """Write a tiny teacher, a file of questions and a config into a folder."""
    from transformers import BertConfig, BertForQuestionAnswering, BertTokenizerFast

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["the", "rhine", "flows", "past", "bonn"],
    ]
    BertTokenizerFast(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder / "teacher")
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForQuestionAnswering(config).save_pretrained(folder / "teacher")
    answers = [{"text": "bonn", "answer_start": 21}]
    questions = [
        {"id": str(i), "question": "rhine flows past", "answers": answers} for i in range(16)
    ]
    paragraph = {"context": "the rhine flows past bonn", "qas": questions}
    squad = {"version": "1.1", "data": [{"title": "rhine", "paragraphs": [paragraph]}]}
    (folder / "train.json").write_text(json.dumps(squad))
    (folder / "student.yaml").write_text(CONFIG)


def main() -> None:
    (args,) = parser.parse([StartupArguments], description=__doc__)
    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    def measured(command: list[str], folder: Path | None = None) -> float:
        cpu_seconds(command, folder)  # the first one compiles modules
        return round(statistics.median(cpu_seconds(command, folder) for _ in range(args.rounds)), 2)

    python = [sys.executable, "-m", "itrd_nlp"]
    figures: dict[str, Any] = {"itrd-nlp --help": measured([*python, "--help"])}
    for name in HELP:
        figures[f"itrd-nlp {name} --help"] = measured([*python, name, "--help"])
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder))
        code = [sys.executable, "-c", FIRST_STEP]
        figures["first optimizer step of itrd-nlp train-squad"] = measured(code, Path(folder))
    record = {"cpu_seconds": figures, "rounds": args.rounds, "environment": environment()}
    if args.output is not None:
        write_json(Path(args.output), record)
    print(json.dumps(record))


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # see bench.py
    process.run(main)
