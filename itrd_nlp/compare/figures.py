"""The main metric against training cost and against depth, and learning curves, each as SVG and PNG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from itrd_nlp.compare.tables import TEACHER, Row

_TAB20 = matplotlib.colormaps["tab20"]
_PAIRS = [_TAB20(i) for i in range(_TAB20.N)]  # a dark one, a light one, ...
_COLOURS = (*_PAIRS[::2], *_PAIRS[1::2])
_MARKERS = "oDs^vP*X"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "itrd_nlp",  # the same figure gives the same bytes
    "text.parse_math": False,  # method names are text
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e0e1e6",
    "legend.frameon": False,
}


def write_figures(
    folder: Path, records: Sequence[Mapping[str, Any]], rows: Sequence[Row]
) -> list[Path]:
    """Write the figures that these records can fill.

    They are named after the main metric, such as `f1`. `f1_cost`: where a time is known. `f1_depth`: where students
    differ in depth. `curves`: where a training logged its task loss or its main metric on the way.

    Args:
        folder: where to.
        records: as `collect` returns them.
        rows: as `summarise` returns them.

    Returns:
        The files written. Figures of earlier calls that these records cannot fill are deleted.
    """
    cells = [record for record in records if record["stage"] == "cells"]
    students = [row for row in rows if row.method != TEACHER]
    main = rows[0].main_metric
    with matplotlib.rc_context(_STYLE):
        figures = {
            f"{main}_cost": score_against_cost(students),
            f"{main}_depth": score_against_depth(rows),
            "curves": learning_curves(cells, f"eval_{main}", rows[0].heading),
        }
        written = []
        for name, figure in figures.items():
            for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                path = folder / f"{name}.{suffix}"
                if figure is None:
                    path.unlink(missing_ok=True)
                else:
                    figure.savefig(path, dpi=150, metadata=metadata)
                    written.append(path)
    return written


def score_against_cost(rows: Sequence[Row]) -> Figure | None:
    """The main metric over the seconds of a training step, or of the whole training where steps were not measured.

    Figure 2 of the paper is like it, but has images a second.
    """
    measured = all(row.cost is not None for row in rows)
    found = [(row, row.cost if measured else row.seconds) for row in rows]
    points = [(row, x) for row, x in found if x is not None]
    if not points:
        return None
    figure = Figure(figsize=(6.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    colours, markers = _colours(rows), _markers(rows)
    for row, x in points:
        label = row.method if len(markers) == 1 else f"{row.student} {row.method}"
        look = {"color": colours[row.method], "marker": markers[row.student], "label": label}
        _point(axes, x, row, look)
    axes.set_xlabel(
        "seconds a training step, teacher included" if measured else "seconds of the training"
    )
    axes.set_ylabel(f"{rows[0].heading} (%)")
    axes.margins(0.1)
    figure.legend(loc="outside right upper")
    return figure


def score_against_depth(rows: Sequence[Row]) -> Figure | None:
    """The main metric over the layers of the student, a line for each method.

    Returns:
        None where all students are equally deep.
    """
    students = [row for row in rows if row.method != TEACHER]
    if len({row.layers for row in students}) < 2:
        return None
    figure = Figure(figsize=(6.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for method, colour in _colours(students).items():
        line = sorted((r for r in students if r.method == method), key=lambda row: row.layers)
        axes.plot([r.layers for r in line], [r.main for r in line], color=colour, label=method)
        for row in line:
            _point(axes, row.layers, row, {"color": colour, "marker": "o"})
    teachers = {(row.layers, row.main) for row in rows if row.method == TEACHER}
    if len(teachers) == 1:
        ((layers, score),) = teachers
        axes.axhline(score, color="#60646c", linestyle="--", label=f"teacher ({layers} layers)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layers of the student")
    axes.set_ylabel(f"{rows[0].heading} (%)")
    figure.legend(loc="outside right upper")
    return figure


def learning_curves(records: Sequence[Mapping[str, Any]], main: str, heading: str) -> Figure | None:
    """A curve of each training over the optimizer steps: a panel for each student, a thin line for each seed.

    It shows the main metric, or the task loss where that metric was not measured on the way. The total loss would be no
    measure, because methods differ in its terms.

    Args:
        records: as `collect` returns them.
        main: name of the curve of the main metric, such as ``eval_f1``.
        heading: heading of the main metric.
    """
    # Every training has one value of it, that of its end.
    curve = main if any(len(_curve(record, main)) > 1 for record in records) else "task"
    drawn = [record for record in records if len(_curve(record, curve)) > 1]
    if not drawn:
        return None
    students = list(dict.fromkeys(record["student"] for record in drawn))
    colours = dict(zip(dict.fromkeys(r["method"] for r in records), _cycle(), strict=False))
    figure = Figure(figsize=(5.0 * len(students) + 1.5, 4.0), layout="constrained")
    panels = figure.subplots(1, len(students), squeeze=False, sharey=True)[0]
    labels = {}
    for student, axes in zip(students, panels, strict=True):
        for record in drawn:
            if record["student"] != student:
                continue
            steps, values = zip(*record["curves"][curve], strict=True)
            method = record["method"]
            (labels[method],) = axes.plot(steps, values, color=colours[method], lw=1, alpha=0.8)
        axes.set_xlabel("optimizer step")
        if len(students) > 1:
            axes.set_title(student)
    panels[0].set_ylabel(f"{heading} (%)" if curve == main else "task loss")
    figure.legend(labels.values(), labels.keys(), loc="outside right upper")
    return figure


def _curve(record: Mapping[str, Any], name: str) -> list[tuple[int, float]]:
    """Step and value of each log. There is none of a training that did not log the value."""
    found: list[tuple[int, float]] = record["curves"].get(name, [])
    return found


def _point(axes: Any, x: float, row: Row, look: Mapping[str, Any]) -> None:
    deviation = None if row.seeds < 2 else row.main_std
    axes.errorbar([x], [row.main], yerr=deviation, capsize=2, markersize=6, lw=1, **look)


def _cycle() -> Iterable[Any]:
    while True:
        yield from _COLOURS


def _colours(rows: Sequence[Row]) -> dict[str, Any]:
    return dict(zip(dict.fromkeys(row.method for row in rows), _cycle(), strict=False))


def _markers(rows: Sequence[Row]) -> dict[str, str]:
    students = list(dict.fromkeys(row.student for row in rows))
    return {student: _MARKERS[i % len(_MARKERS)] for i, student in enumerate(students)}
