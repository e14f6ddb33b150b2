"""The depths that a budget chose from, for the report of a run."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from itrd_nlp.publish.report import charts
from itrd_nlp.publish.report.tables import Cell, Figure, Table, number
from itrd_nlp.training.record import RunRecord, runtimes_of


@dataclass
class Budget:
    """A budget as a report shows it.

    Attributes:
        text: the limits, and the depth that was chosen.
        table: time, speed and size of each depth.
        figures: time over the depth, and quality over the time.
    """

    text: str
    table: Table
    figures: list[Figure]


def shown_budget(record: RunRecord, one: str, main: str) -> Budget | None:
    """The budget of a run, None where it had none.

    Args:
        record: of the run.
        one: the noun for one example.
        main: the metric of the curve of quality.
    """
    if not record.candidates:
        return None
    runtimes = runtimes_of(record.candidates)
    head, rows = ["layers"], []
    for runtime in runtimes:
        head += [f"{runtime}: ms/{one}", f"{runtime}: times as fast", f"{runtime}: MB"]
    for candidate in record.candidates:
        row = [Cell(str(candidate.layers), candidate.layers)]
        for runtime in runtimes:
            known = runtime in candidate.ms
            row.append(number(candidate.ms.get(runtime), "{:.1f}"))
            row.append(number(candidate.speedup(runtime) if known else None, "{:.2f}"))
            row.append(number(candidate.megabytes.get(runtime), "{:.1f}"))
        rows.append(row)
    limits = [
        f"{name} {record.arguments[name]}"
        for name in ("speedup", "max_ms", "max_mb", "budget_runtime")
        if name in record.arguments
    ]
    layers = "" if record.layers is None else f" Layers of the student: {record.layers}."
    text = f"The budget: {', '.join(limits)}.{layers} Times as fast: as the teacher in torch, measured beside it."
    figures = [_times(record, runtimes, one), _quality(record, one, main)]
    return Budget(text, Table("Candidates", head, rows), [f for f in figures if f is not None])


def _times(record: RunRecord, runtimes: list[str], one: str) -> Figure:
    title = "Time by depth"
    series = {
        runtime: [(c.layers, c.ms[runtime]) for c in record.candidates if runtime in c.ms]
        for runtime in runtimes
    }
    svg = charts.line_chart(title, series, y_label=f"ms/{one}", x_label="layers of the student")
    return Figure(title, Markup(svg))


def _quality(record: RunRecord, one: str, main: str) -> Figure | None:
    """Teacher and student by their times at the end, and the other depths as marks on the axis."""
    models = {}
    for label, model in (("teacher", record.teacher), ("student", record)):
        if model is not None and model.ms_per_question and main in model.scores:
            models[label] = (model.ms_per_question, model.scores[main])
    if len(models) < 2:
        return None
    title = "Quality against time"
    others = [
        (str(c.layers), c.ms["torch"])
        for c in record.candidates
        if c.layers != record.layers and "torch" in c.ms
    ]
    label = record.metrics[main]
    svg = charts.quality_chart(
        title, models, others, x_label=f"ms/{one} in torch", y_label=f"{label} (%)"
    )
    note = "A dotted line is the time of a student of so many layers, which was measured and not trained."
    return Figure(title, Markup(svg), note)
