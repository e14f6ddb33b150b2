"""A row of the log is one short line on the screen, and the history keeps every value."""

from __future__ import annotations

import re

import pytest
from transformers import PrinterCallback, ProgressCallback, TrainerState

from itrd_nlp.training.log_lines import (
    PrintedLines,
    ProgressLines,
    log_line,
    with_readable_lines,
)

ROW = {
    "loss": -6.068,
    "grad_norm": 69.78,
    "learning_rate": 0.0009,
    "task": 3.386,
    "kd": 0.0008326,
    "corr_1:2": -2.395,
    "corr_2:4": -2.395,
    "corr": -4.79,
    "mi_1:2": 0.06302,
    "mi_2:4": 0.06273,
    "mi": 0.1258,
    "correlation_1:2": 0.9209,
    "correlation_2:4": 0.92,
    "epoch": 0.2,
}


@pytest.fixture
def state() -> TrainerState:
    return TrainerState(global_step=50, max_steps=1000)


def test_a_row_of_steps_has_the_loss_its_terms_and_the_learning_rate(state: TrainerState) -> None:
    line = log_line(ROW, state)
    assert line.startswith("step   50/1000  loss ")
    assert dict(re.findall(r"(\w+) +(-?[\d.e-]+)(?=  |$)", line.partition("1000  ")[2])) == {
        "loss": "-6.068",
        "task": "3.386",
        "kd": "0.0008326",
        "corr": "-4.79",
        "mi": "0.1258",
        "lr": "0.0009",
    }
    assert len(line) <= 120


def test_a_text_in_a_row_is_shown_as_it_is(state: TrainerState) -> None:
    """A callback of the user may put one there."""
    assert re.search(r"stage +warm  ", log_line(ROW | {"stage": "warm"}, state))


def test_rows_are_aligned(state: TrainerState) -> None:
    smaller = {name: value / 1000 for name, value in ROW.items()}
    state.global_step = 1000
    last = log_line(smaller, state)
    state.global_step = 5
    assert [m.start() for m in re.finditer("kd|corr|mi|lr", log_line(ROW, state))] == [
        m.start() for m in re.finditer("kd|corr|mi|lr", last)
    ]


def test_an_evaluation_has_its_metrics_and_the_end_its_time(state: TrainerState) -> None:
    metrics = {"eval_f1": 49.309, "eval_loss": 2.5, "eval_runtime": 4.8, "epoch": 1.0}
    line = log_line(metrics | {"eval_samples_per_second": 208.0}, state)
    assert line == "step   50/1000  eval_f1 49.31  eval_loss 2.5"
    end = {"train_runtime": 128.4, "train_loss": 30.93, "train_steps_per_second": 2.0}
    assert log_line(end, state) == "50 steps in 128 s, mean loss 30.93"


class Mine(ProgressCallback):
    """A callback of a user."""


def test_the_two_of_transformers_are_replaced_and_no_other() -> None:
    mine = Mine()
    kinds = [type(c) for c in with_readable_lines([ProgressCallback(), PrinterCallback(), mine])]
    assert kinds == [ProgressLines, PrintedLines, Mine]
