"""Tiny checkpoints and SQuAD files on disk, and a way to run the scripts as a user does."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import BertTokenizerFast

ROOT = Path(__file__).parents[2]
WORDS = [
    "the",
    "river",
    "rhine",
    "flows",
    "past",
    "basel",
    "and",
    "bonn",
    "before",
    "it",
    "meets",
    "sea",
    "near",
    "rotterdam",
    "what",
    "where",
    "how",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def squad_file(path: Path, *, questions: int, prefix: str) -> Path:
    """Questions whose answer is the word after the one they ask for."""
    paragraphs = []
    for i in range(questions):
        words = [WORDS[(i * 7 + j * j) % 13] for j in range(25)]
        context, at = " ".join(words), 3 + i % 20
        start = len(" ".join(words[:at])) + 1
        answer = {"text": words[at], "answer_start": start}
        question = {"id": f"{prefix}{i}", "question": f"what {words[at - 1]}", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [question]})
    path.write_text(
        json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})
    )
    return path


@pytest.fixture
def workplace(tmp_path: Path, make_bert: Any) -> Path:
    """A folder with `teacher`, `train.json`, `dev.json` and configs for teacher and student."""
    tokens = [*SPECIAL, *WORDS, *(f"t{i}" for i in range(64 - len(SPECIAL) - len(WORDS)))]
    tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)})
    for name, layers in (("teacher", 4), ("encoder", 4)):
        make_bert(layers, seed=0).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    squad_file(tmp_path / "train.json", questions=24, prefix="t")
    squad_file(tmp_path / "dev.json", questions=10, prefix="d")
    common = (
        "train_file: train.json\nvalidation_file: dev.json\nmax_length: 64\ndoc_stride: 16\n"
        "per_device_train_batch_size: 8\nnum_train_epochs: 1\nlearning_rate: 1e-3\nseed: 0\nbf16: true\n"
        "save_strategy: 'no'\nreport_to: none\npreprocessing_num_workers: 1\n"
        "train_sampling_strategy: group_by_length\nlogging_steps: 1\n"
    )
    (tmp_path / "teacher.yaml").write_text(
        common + "model_name_or_path: encoder\noutput_dir: fine_tuned\n"
    )
    (tmp_path / "student.yaml").write_text(
        common + "teacher: teacher\nnum_layers: 2\noutput_dir: student\n"
    )
    return tmp_path


def command(script: str, arguments: tuple[str, ...], launch: bool) -> list[str]:
    launcher = []
    if launch:
        config = str(ROOT / "configs" / "accelerate" / "cpu.yaml")
        launcher = ["-m", "accelerate.commands.launch", "--config_file", config]
    return [sys.executable, *launcher, str(ROOT / "scripts" / script), *arguments]


def process_arguments(workplace: Path) -> dict[str, Any]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(workplace / "cache"),
        "COLUMNS": "120",
    }
    return {"cwd": workplace, "env": environment, "text": True}


@pytest.fixture
def run_script(workplace: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script of the repository in the workplace, by plain python or by accelerate launch."""

    def run(script: str, *arguments: str, launch: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(script, arguments, launch),
            capture_output=True,
            timeout=240,
            **process_arguments(workplace),
        )

    return run


@pytest.fixture
def start_script(workplace: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a script in a process group of its own, to be killed."""

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(script, arguments, False),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **process_arguments(workplace),
        )

    return start


@pytest.fixture
def refusal(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a script in this process, which must refuse; return its one sentence."""

    def refusal(script: str, *arguments: str) -> str:
        monkeypatch.chdir(workplace)
        monkeypatch.setattr("sys.argv", [script, *arguments])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")
        assert exit.value.code == 2
        errors = capsys.readouterr().err.splitlines()
        sentences = [line for line in errors if line.startswith("error: ")]
        assert len(sentences) == 1, errors
        return sentences[0]

    return refusal
