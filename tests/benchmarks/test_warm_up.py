"""Peak memory is that of the timed training: the models of the one before are freed."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import pytest

sizes = {"shape": "tiny", "student_layers": 2, "batch_size": 4, "steps": 2}


@pytest.fixture
def alive(monkeypatch):
    """Return the list of how many earlier models are alive when new ones are made."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    from benchmarks import training, windows

    questions = windows.random_windows([16] * 8)
    monkeypatch.setattr(windows, "squad_batches", lambda *_: (questions, windows._Padding()))
    make = training.random_models
    earlier: list[weakref.ref] = []
    counts: list[int] = []

    def random_models(*args, **kwargs):
        counts.append(sum(model() is not None for model in earlier))
        made = make(*args, **kwargs)
        earlier.extend(map(weakref.ref, made))
        return made

    monkeypatch.setattr(training, "random_models", random_models)
    gc.disable()  # it may run between two trainings by chance
    yield counts
    gc.enable()


def test_our_first_models_are_freed_before_the_second_training(alive):
    from benchmarks import train_step

    train_step.measure_ours(train_step.TrainStepArguments(**sizes), "kd")
    assert alive == [0, 0]


def test_modelopt_has_one_training_whose_first_step_is_not_timed(alive, monkeypatch):
    pytest.importorskip("modelopt", reason="pip install nvidia-modelopt")
    from benchmarks import train_step

    timed = []
    monkeypatch.setattr(train_step, "figures", lambda seconds, _: timed.extend(seconds))
    train_step.measure_modelopt(train_step.TrainStepArguments(**sizes))
    assert alive == [0]
    assert len(timed) == sizes["steps"]


def test_the_peak_of_a_gpu_counts_from_there(monkeypatch, alive):
    from benchmarks import training

    called = []
    cuda = training.torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "reset_peak_memory_stats", lambda: called.append("reset"))
    training.forget_warm_up()
    assert called == ["reset"]
