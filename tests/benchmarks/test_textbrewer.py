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
