"""Charts as SVG elements of a page. Their colours are variables of the page's style sheet, their text is text."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import Any
from unicodedata import east_asian_width

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from rich.cells import cell_len, set_cell_size

from itrd_nlp.publish.report.data import Group

Points = Sequence[tuple[float, float]]

# matplotlib draws with these values, which occur nowhere else; in the page each becomes var(--name).
COLOURS = {
    "ink": "#1c2024",
    "muted": "#60646c",
    "rule": "#e0e1e6",
    "heat": "#08457f",
    "on-heat": "#fdfdfe",
    "teacher": "#8b5e00",
    "student": "#0b68cb",
    "line-1": "#0a67ca",
    "line-2": "#b45309",
    "line-3": "#0f766e",
    "line-4": "#a21caf",
    "line-5": "#4d7c0f",
    "line-6": "#be123c",
}
_LINES = [name for name in COLOURS if name.startswith("line-")]
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_POINTS_WITH_MARKERS = 30
_LEGEND_ROW = 17  # pixels
_WIDTH = 340  # of most charts, in CSS pixels at their natural size
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "itrd_nlp",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib; the page replaces it
    "font.size": 10.5,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["rule"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["rule"],
    "ytick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.6,
}


def line_chart(
    name: str,
    series: Mapping[str, Points],
    *,
    y_label: str,
    x_label: str = "optimizer step",
    unit_interval: bool = False,
) -> str:
    """Values over the optimizer steps, or over other whole numbers, one line a series, told apart by colour and dashes.

    Args:
        name: description of the chart for a reader who cannot see it. Its ids begin with it, so that no two charts
            share one.
        series: label to pairs of step and value. The legend is left out where there is only one.
        y_label: name of the values, with their unit.
        x_label: name of the numbers that they stand over.
        unit_interval: the values lie between 0 and 1, and the chart shows all of that range. Default: false.
    """
    with matplotlib.rc_context(STYLE):
        names = [shortened(label, 40) for label in series]
        # Beside its text an entry of the legend has a line and room on both sides.
        columns = int((_WIDTH - 8) // (max(map(_width, names), default=0.0) + 46))
        columns = max(1, min(columns, len(names), 4))
        more_rows = math.ceil(len(names) / columns) - 1
        figure, axes = sized_figure(_WIDTH, 215 + _LEGEND_ROW * more_rows)
        for i, (label, points) in enumerate(zip(names, series.values(), strict=True)):
            axes.plot(
                [step for step, _ in points],
                [value for _, value in points],
                label=label,
                color=COLOURS[_LINES[i % len(_LINES)]],
                linestyle=_DASHES[(i // len(_LINES) + i) % len(_DASHES)],
                marker="o" if len(points) <= _POINTS_WITH_MARKERS else None,
                markersize=2.5,
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        if unit_interval:
            axes.set_ylim(min(0, axes.get_ylim()[0]), 1.02)
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=columns)
        return element(figure, name)


def quality_chart(
    name: str,
    models: Mapping[str, tuple[float, float]],
    candidates: Sequence[tuple[str, float]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Quality of models against their time, and the times of students that were not trained.

    Args:
        name: as in `line_chart`.
        models: label of a model to its time and its score in percent.
        candidates: label and time of each student that was measured and not trained; a mark on the axis.
        x_label: name of the times, with their unit.
        y_label: name of the scores, with their unit.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = sized_figure(_WIDTH, 215)
        for label, time in candidates:
            axes.axvline(time, color=COLOURS["muted"], lw=0.8, linestyle=":")
            axes.annotate(
                label, (time, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom"
            )
        times, scores = zip(*models.values(), strict=True)
        axes.plot(times, scores, color=COLOURS["student"], marker="o", markersize=5)
        for label, point in models.items():
            axes.annotate(label, point, xytext=(6, -12), textcoords="offset points")
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xlim(0, 1.15 * max([*times, *(time for _, time in candidates)]))
        axes.margins(y=0.25)
        return element(figure, name)


def heat_map(
    name: str, matrix: Sequence[Sequence[float]], marked: Sequence[tuple[int, int]]
) -> str:
    """Values from 0 to 1 of student layers (rows, upwards) and teacher layers (columns).

    Args:
        name: as in `line_chart`.
        matrix: rows of columns. Row 0 and column 0 are the embeddings.
        marked: (row, column) of the cells with a frame.
    """
    rows, columns = len(matrix), len(matrix[0])
    cell = max(28.0, min(38.0, (_WIDTH - 45) / columns))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = sized_figure(columns * cell + 45, rows * min(cell, 30) + 42)
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                # The colour is opacity, so that 0 is the page's background in any mode.
                axes.add_patch(
                    Rectangle((j - 0.5, i - 0.5), 1, 1, color=COLOURS["heat"], alpha=value, lw=0)
                )
                # There both colours have the same contrast, in the light and the dark mode.
                dark = value > 0.67
                text = f"{value:.2f}".removeprefix("0") if value < 0.995 else "1.0"
                colour = COLOURS["on-heat" if dark else "ink"]
                axes.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
        for i, j in marked:
            if i < rows and j < columns:
                axes.add_patch(
                    Rectangle(
                        (j - 0.46, i - 0.46), 0.92, 0.92, fill=False, ec=COLOURS["line-2"], lw=2.4
                    )
                )
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(-0.5, rows - 0.5))
        axes.set(xlabel="teacher layer (0: embeddings)", ylabel="student layer")
        axes.set_xticks(range(columns), [str(j) for j in range(columns)])
        axes.set_yticks(range(rows), [str(i) for i in range(rows)])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return element(figure, name)


def group_chart(
    name: str,
    student: Mapping[str, Group],
    teacher: Mapping[str, Group] | None,
    *,
    field: str,
    x_label: str,
    y_label: str,
    labels: tuple[str, str],
) -> str | None:
    """One score of student and teacher in groups of questions, a row a group, from 0, or a lower score, to 100 %.

    Args:
        name: as in `line_chart`.
        student: group to its scores.
        teacher: the same groups, judged on the teacher.
        field: name of the score, such as ``f1``.
        x_label: name of the score, with its unit.
        y_label: noun for the groups.
        labels: names of student and teacher in the legend.

    Returns:
        The element. Long names of groups and axes are shortened. None: there are no groups.
    """
    if not student:
        return None
    groups = list(student)
    values = [student[group].scores[field] for group in groups]
    known = [
        (i, teacher[g].scores[field]) for i, g in enumerate(groups) if teacher and g in teacher
    ]
    names = [f"{shortened(group)} ({student[group].questions:,})" for group in groups]
    y_label, x_label = shortened(y_label, 40), shortened(x_label, 40)
    with matplotlib.rc_context(STYLE):
        # A layout by matplotlib takes the width of a character that its font lacks for that of a box.
        left, right, top, bottom = max(map(_width, names)) + 32, 14, 28, 40
        width = max(_WIDTH, left + 190)
        height = max(24 * len(groups) + top + bottom, _width(y_label) + 12)
        figure = Figure(figsize=(width / 72, height / 72))
        share = (1 - (left + right) / width, 1 - (top + bottom) / height)
        axes = figure.add_axes((left / width, bottom / height, *share))
        axes.grid(axis="y", visible=False)
        _draw_models(axes, values, known, labels)
        least = min([0, *values, *(value for _, value in known)])  # a correlation may be negative
        axes.set(xlim=(least - 2, 102), ylim=(len(groups) - 0.5, -0.5))
        axes.set_xlabel(x_label, loc="right")
        unit = figure.text(12 / width, 0.5, y_label, rotation=90, ha="center", va="center")
        unit.set_color(COLOURS["muted"])
        axes.set_yticks(range(len(groups)), names)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        if teacher is not None:
            figure.legend(
                loc="upper left",
                bbox_to_anchor=(left / width, 1),
                borderaxespad=0,
                ncols=2,
                handlelength=1,
            )
        return element(figure, name)


def _draw_models(
    axes: Any, values: Sequence[float], known: Sequence[tuple[int, float]], labels: tuple[str, str]
) -> None:
    """Draw the marks of the student, those of the teacher where they are known, and a line between both."""
    if known:
        rows, theirs = zip(*known, strict=True)
        ours = [values[row] for row in rows]
        axes.hlines(rows, ours, theirs, color=COLOURS["muted"], lw=1, zorder=1)
        ring = {"mfc": "none", "mec": COLOURS["teacher"], "mew": 1.8}
        axes.plot(theirs, rows, "o", ms=7, label=labels[1], **ring)
    full = {"ms": 6, "mew": 0, "color": COLOURS["student"]}
    axes.plot(values, range(len(values)), "D", label=labels[0], **full)


def shortened(text: str, most: int = 24) -> str:
    """A text in a line of so many columns of a terminal at most. A character of Chinese takes two of them."""
    line = " ".join(text.split())
    return line if cell_len(line) <= most else f"{set_cell_size(line, most - 1).rstrip()}…"


def _width(text: str) -> float:
    """The pixels of a text, about. The fonts of the page are no wider than that of matplotlib."""
    wide = sum(east_asian_width(character) in "WF" for character in text)
    narrow = "".join(c for c in text if east_asian_width(c) not in "WF")
    with _without_warnings_of_glyphs():
        path = TextPath((0, 0), narrow, size=STYLE["font.size"])
    return float(STYLE["font.size"] * wide + (np.ptp(path.vertices[:, 0]) if narrow.strip() else 0))


@contextmanager
def _without_warnings_of_glyphs() -> Iterator[None]:
    """Keep matplotlib from saying that its font lacks a character. The fonts of the page have it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def sized_figure(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of a size in points, which an SVG element shows as CSS pixels, and its axes."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, figure.add_subplot()


def element(figure: Figure, name: str) -> str:
    """The element alone, with the page's colours and with ids that no other chart has."""
    buffer = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _without_warnings_of_glyphs():
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", name.lower())
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg[svg.index("<svg") :])
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    width, height = (round(float(x)) for x in figure.get_size_inches() * 72)
    # In place of matplotlib's size in points: as wide as the page lets it be, but not wider than is readable.
    opening = (
        f'<svg role="img" aria-label="{escape(name)}" class="chart" viewBox="0 0 {width} {height}"'
        f' style="--width: {width}px" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return opening + svg[svg.index(">") + 1 :].strip()
