"""The profile is one of steps, and not of what comes before them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def profile(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    from benchmarks import profile, windows

    questions = windows.random_windows([16] * 8)
    monkeypatch.setattr(windows, "squad_batches", lambda *_: (questions, windows._Padding()))
    return profile


def measured(profile, mode):
    args = profile.ProfileArguments(shape="tiny", student_layers=2, batch_size=4, steps=2)
    return profile.measure(args, mode)


def test_the_weights_of_a_new_model_are_drawn_outside_of_the_profile(profile):
    found = measured(profile, "profiler")
    assert "aten::addmm" in found["operators"]
    assert "aten::normal_" not in found["operators"]
    assert sum(found["shares"].values()) == pytest.approx(1)


def test_page_faults_are_counted_where_the_steps_begin_and_end(profile, monkeypatch):
    from benchmarks import training

    at = []
    begin = training.Clock.on_train_begin

    def on_train_begin(self, *args, **kwargs):
        at.append("begin")
        begin(self, *args, **kwargs)

    monkeypatch.setattr(training.Clock, "on_train_begin", on_train_begin)
    usage = profile.resource.getrusage
    monkeypatch.setattr(
        profile.resource, "getrusage", lambda who: at.append("counted") or usage(who)
    )
    assert measured(profile, "clock")["seconds_per_step"] > 0
    # The first training warms up.
    assert at == ["begin", "begin", "counted", "counted"]


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::linalg_vector_norm", "optimizer"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::_foreach_mul_", "optimizer"),
        ("aten::native_layer_norm_backward", "layer norm"),
        ("aten::normal_", "other"),
    ],
)
def test_an_operator_is_of_a_kind(profile, operator, kind):
    event = SimpleNamespace(key=operator, self_cpu_time_total=1)
    assert profile.shares([event])["shares"] == {kind: 1}
