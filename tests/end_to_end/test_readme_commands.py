"""The commands of the README, in their order, on a student like that of the quickstart, only smaller."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
ROWS = [line for line in README.splitlines() if line.startswith("| ")]
COMMANDS = [
    *(line for block in BLOCKS for line in block.splitlines() if line.startswith("itrd-nlp ")),
    *(command for row in ROWS for command in re.findall(r"`(itrd-nlp [^`]*)`", row)),
]
TRAINING = (
    *("train-squad", "train-teacher", "train-classifier", "distil-classifier"),
    *("fine-tune", "distil"),
)
WINDOWS = ["--max_length", "64", "--doc_stride", "16"]


def shrunk(command: str) -> list[str]:
    """The words behind `itrd-nlp`, with options that make it small. Of an option given twice the last one counts."""
    words = shlex.split(command)[1:]
    if words[0] in TRAINING:
        words += ["--max_train_samples", "8", "--max_eval_samples", "4", "--max_length", "64"]
    elif "--max_eval_samples" in words:
        words += ["--max_eval_samples", "4", *WINDOWS]
    if words[0] in ("train-squad", "train-teacher"):
        words += ["--doc_stride", "16"]
    if words[0] == "export-onnx":
        words += ["--max_f1_drop", "100"]
    if words[0] == "compare":
        words += ["--base", "small.yaml"]
    return words


def in_two_articles(content):
    """Questions about one article are more alike than others, so that pairs of them have several similarities."""
    (article,) = content["data"]
    paragraphs = article["paragraphs"]
    halves = (paragraphs[: len(paragraphs) // 2], paragraphs[len(paragraphs) // 2 :])
    named = zip(("t", "u"), halves, strict=True)
    return content | {"data": [{"title": title, "paragraphs": half} for title, half in named]}


@pytest.fixture
def quickstart(workplace, run_script):
    """The folders that `make quickstart` leaves."""
    assets = workplace / "assets" / "squad"
    assets.mkdir(parents=True)
    for name in ("train", "dev"):
        # A second sentence, which has no answer, for the classification of sentences.
        text = (workplace / f"{name}.json").read_text()
        longer = re.sub(
            r'("context": "[^"]*)"', r'\1. The rhine flows, and it meets the sea."', text
        )
        (assets / f"{name}-v1.1.json").write_text(json.dumps(in_two_articles(json.loads(longer))))
    shutil.copytree(workplace / "encoder", workplace / "assets" / "minilm-l6")
    runs = workplace / "runs" / "quickstart"
    shutil.copytree(workplace / "teacher", runs / "teacher")
    (workplace / "small.yaml").write_text(
        f"base: {ROOT}/configs/quickstart/quickstart.yaml\nmax_train_samples: 8\nmax_eval_samples: 4\n"
        "max_length: 64\ndoc_stride: 16\n"
    )
    done = run_script("train_squad.py", "student.yaml", "--output_dir", "runs/quickstart/student")
    assert done.returncode == 0, done.stderr
    return workplace


def test_the_readme_shows_a_command_for_each_thing_to_do():
    shown = [shlex.split(command)[1] for command in COMMANDS]
    assert {"evaluate", "predict", "report", "export-onnx", "push-to-hub"} <= set(shown)
    assert {*TRAINING, "compare"} <= set(shown)
    assert shown.count("train-squad") == 2


def test_no_command_of_the_readme_trains_on_more_than_it_says():
    for command in COMMANDS:
        words = shlex.split(command)
        if words[1] in TRAINING:
            limited = "--max_train_samples" in words and int(
                words[words.index("--max_train_samples") + 1]
            )
            assert "quickstart" in words[2] or limited <= 2000, command


@pytest.mark.slow
def test_every_command_of_the_readme_runs_after_the_quickstart(quickstart, monkeypatch):
    monkeypatch.chdir(quickstart)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "itrd_nlp", *shrunk(command)],
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout.strip(), command
