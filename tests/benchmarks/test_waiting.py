"""A GPU works through several steps before it is waited for, as it does in a training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def events(monkeypatch):
    """Return the list of what happens; waiting for a GPU is one of it."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    from benchmarks import training
    from benchmarks.peers import textbrewer_squad

    seen: list[str] = []
    for module in (training, textbrewer_squad):
        monkeypatch.setattr(module, "wait_for_gpu", lambda: seen.append("wait"))
    return seen


def between_waits(events, name):
    """Return how often something happens between one wait and the next, where it happens at all."""
    parts = " ".join(events).split("wait")
    return [part.split().count(name) for part in parts if name in part]


@pytest.mark.parametrize("on_gpu", [True, False])
def test_steps_and_products_are_started_together_on_a_gpu(events, on_gpu):
    from benchmarks import matmul_share

    measured = matmul_share.in_turns(
        lambda: events.append("products"), lambda: events.append("step"), 2, on_gpu=on_gpu
    )
    assert len(measured) == 2
    warm_up, *steps = between_waits(events, "step")
    assert warm_up == matmul_share.WARM_UP
    assert steps == [matmul_share.STEPS_AT_ONCE if on_gpu else 1] * 2
    _, *products = between_waits(events, "products")
    assert products == [matmul_share.PRODUCTS_AT_ONCE if on_gpu else 1] * 2


@pytest.mark.parametrize(("each", "expected"), [(True, [1, 1, 1]), (False, [3])])
def test_our_training_is_waited_for_at_begin_and_end_or_at_each_step(events, each, expected):
    from benchmarks import training, windows

    class Note(training.TrainerCallback):
        def on_step_begin(self, *_, **__):
            events.append("step")

    clock = training.train(
        "tiny",
        2,
        windows.random_windows([16] * 6),
        windows.random_collator(),
        callbacks=[Note()],
        wait_each_step=each,
        max_steps=3,
        per_device_train_batch_size=2,
    )
    assert len(clock.ended) == 3
    assert between_waits(events, "step") == expected
    assert (events[0], events[-1]) == ("wait", "wait")


def test_textbrewer_is_waited_for_at_begin_and_end(events):
    from benchmarks.peers.textbrewer_squad import Clocked

    clocked = Clocked([{}] * 3)
    for _ in clocked:
        events.append("step")
    assert events == ["wait", "step", "step", "step", "wait"]
    assert len(clocked.times) == 4
