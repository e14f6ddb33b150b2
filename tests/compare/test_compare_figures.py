"""Figures: which are drawn of what, and that they show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itrd_nlp.compare.figures import (
    learning_curves,
    score_against_cost,
    score_against_depth,
    write_figures,
)
from itrd_nlp.compare.tables import summarise

METHODS = {"kd": 0.4, "corr": 0.7}


def points(axes: Any) -> dict[str, tuple[float, float]]:
    """Label of each point with error bars to where it is."""
    return {bars.get_label(): tuple(bars.lines[0].get_xydata()[0]) for bars in axes.containers}


def test_figures_are_written_twice_each_and_to_the_same_bytes(
    make_outcome: Any, tmp_path: Path
) -> None:
    records, scores = make_outcome(METHODS)
    rows = summarise(records, scores, reference="kd")
    written = write_figures(tmp_path, records, rows)
    assert {path.name for path in written} == {
        f"{name}.{suffix}" for name in ("f1_cost", "curves") for suffix in ("svg", "png")
    }
    svg = (tmp_path / "f1_cost.svg").read_bytes()
    assert b">kd</text>" in svg and b">corr</text>" in svg
    assert (tmp_path / "f1_cost.png").read_bytes()[1:4] == b"PNG"
    write_figures(tmp_path, records, rows)
    assert (tmp_path / "f1_cost.svg").read_bytes() == svg


def test_a_figure_that_can_no_longer_be_drawn_is_not_left_over(
    make_outcome: Any, tmp_path: Path
) -> None:
    records, scores = make_outcome(METHODS)
    (tmp_path / "f1_depth.svg").write_text("of another comparison")
    write_figures(tmp_path, records, summarise(records, scores, reference="kd"))
    assert not (tmp_path / "f1_depth.svg").exists()


def test_the_cost_is_that_of_a_step_where_it_was_measured_for_all(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS)
    rows = summarise(records, scores, reference="kd")[1:]
    axes = score_against_cost(rows).axes[0]
    assert axes.get_xlabel() == "seconds of the training"
    assert points(axes) == {row.method: (row.seconds, row.main) for row in rows}
    for record in records:
        record["cost"] = 0.75
    axes = score_against_cost(summarise(records, scores, reference="kd")[1:]).axes[0]
    assert axes.get_xlabel() == "seconds a training step, teacher included"
    assert {x for x, _ in points(axes).values()} == {0.75}


def test_depth_needs_students_of_two_depths(make_outcome: Any) -> None:
    three, a = make_outcome(METHODS)
    assert score_against_depth(summarise(three, a, reference="kd")) is None
    six, b = make_outcome(METHODS, student="T6", layers=6)
    rows = summarise([*three, *six], a | b, reference="kd")
    axes = score_against_depth(rows).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert {"kd", "corr", "teacher (6 layers)"} <= set(lines)
    assert list(lines["kd"].get_xdata()) == [3, 6]
    assert list(lines["kd"].get_ydata()) == [r.main for r in rows if r.method == "kd"]


def test_a_learning_curve_is_the_f1_where_it_was_measured_and_else_the_task_loss(
    make_outcome: Any,
) -> None:
    records, _ = make_outcome(METHODS)
    axes = learning_curves(records, "eval_f1", "F1").axes[0]
    assert axes.get_ylabel() == "task loss"
    assert len(axes.lines) == 4  # a line for each seed of each method
    assert list(axes.lines[0].get_xdata()) == [25, 50, 75]
    records[1]["curves"]["eval_f1"] = [[50, 40.0], [75, 45.0]]
    axes = learning_curves(records, "eval_f1", "F1").axes[0]
    assert axes.get_ylabel() == "F1 (%)"
    assert [list(line.get_ydata()) for line in axes.lines] == [[40.0, 45.0]]


def test_a_training_without_a_curve_has_no_line(make_outcome: Any) -> None:
    records, _ = make_outcome(METHODS)
    records[0]["curves"] = {}
    assert len(learning_curves(records, "eval_f1", "F1").axes[0].lines) == 3


def test_a_method_has_the_same_colour_in_every_figure(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS)
    records[0]["curves"] = records[2]["curves"] = {"task": [], "eval_f1": []}  # of kd
    rows = summarise(records, scores, reference="kd")[1:]
    cost = score_against_cost(rows).axes[0]
    (colour,) = {
        line.get_color() for line in learning_curves(records, "eval_f1", "F1").axes[0].lines
    }
    (corr,) = (bars for bars in cost.containers if bars.get_label() == "corr")
    assert colour == corr.lines[0].get_color()


def test_nothing_logged_is_no_figure(make_outcome: Any) -> None:
    records, _ = make_outcome(METHODS)
    for record in records:
        record["curves"] = {"task": [], "eval_f1": []}
    assert learning_curves(records, "eval_f1", "F1") is None
