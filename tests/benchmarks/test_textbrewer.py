"""The peer TextBrewer has what the benchmark names, and nothing but its step is timed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("textbrewer", reason="pip install textbrewer")


@pytest.fixture(autouse=True)
def benchmarks_are_importable(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])


def test_no_timed_step_writes_a_checkpoint(monkeypatch, tmp_path):
    from benchmarks.peers.textbrewer_squad import seconds_per_step
    from benchmarks.training import random_models
    from benchmarks.windows import random_collator, random_windows

    written = []
    monkeypatch.setattr(torch, "save", lambda *args, **_: written.append(args))
    teacher, student = random_models("tiny", 2, attention="sdpa")
    batches = [random_collator()(random_windows([16] * 2).to_list())] * 3
    seconds = seconds_per_step(teacher.eval(), student, batches, tmp_path, bf16=False)
    assert len(seconds) == 3
    assert written == []


@pytest.fixture
def run_of(monkeypatch):
    """Return a function that measures a candidate at a tiny size, and returns its teacher and its optimizer."""
    from benchmarks import train_step, training, windows
    from benchmarks.peers import textbrewer_squad

    questions = windows.random_windows([16] * 16)
    questions = questions.add_column("token_type_ids", [[0] * 16] * len(questions))
    monkeypatch.setattr(windows, "squad_batches", lambda *_: (questions, windows._Padding()))
    monkeypatch.setattr(training, "training_dtype", lambda: torch.bfloat16)
    made: list[torch.optim.Optimizer] = []
    teachers: list[torch.nn.Module] = []
    adamw, timed = torch.optim.AdamW, textbrewer_squad.seconds_per_step

    def optimizer(*args, **kwargs):
        made.append(adamw(*args, **kwargs))
        return made[-1]

    def seconds_per_step(teacher, *args, **kwargs):
        teachers.append(teacher)
        return timed(teacher, *args, **kwargs)

    def run(*, tuned):
        with monkeypatch.context() as patch:
            patch.setattr(torch.optim, "AdamW", optimizer)
            patch.setattr(textbrewer_squad, "seconds_per_step", seconds_per_step)
            args = train_step.TrainStepArguments(shape="tiny", student_layers=2, batch_size=8)
            train_step.measure_textbrewer(args, tuned=tuned)
        return teachers[-1], made[-1]

    return run


def test_the_tuned_candidate_has_our_optimizer_and_our_teacher(run_of):
    teacher, optimizer = run_of(tuned=True)
    assert optimizer.defaults["fused"] is True
    assert teacher.dtype == torch.bfloat16


def test_the_candidate_of_the_example_has_those_of_the_example(run_of):
    teacher, optimizer = run_of(tuned=False)
    assert not optimizer.defaults["fused"]
    assert teacher.dtype == torch.float32
