"""The page of a report: the files of a run, as HTML."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from itrd_nlp import __version__
from itrd_nlp.losses.peers import term_of
from itrd_nlp.publish.page import LossUnits, TaskPage, singular
from itrd_nlp.publish.privacy import public_command, public_config, public_text, public_value
from itrd_nlp.publish.report import charts
from itrd_nlp.publish.report.budget import shown_budget
from itrd_nlp.publish.report.data import Breakdown, Group, LogRow, Run
from itrd_nlp.publish.report.segments import segments
from itrd_nlp.publish.report.tables import Cell, Figure, Table, number
from itrd_nlp.training.record import ModelRecord, RunRecord

HERE = Path(__file__).parent


@dataclass
class Fact:
    """A number of the headline."""

    name: str
    value: str
    notes: list[str] = field(default_factory=list)


def render(run: Run, page: TaskPage) -> str:
    """The HTML of a report. All text in it is escaped; the charts alone are markup of our own."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for public in (public_command, public_config, public_text):
        environment.filters[public.__name__] = public
    record, unit = run.record, _unit(run.record, page)
    script = (HERE / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pairs = [(int(i), int(j)) for i, j in (pair.split(":") for pair in record.layer_pairs)]
    return environment.get_template("template.html.jinja").render(
        name=run.name,
        own="student" if record.teacher is not None else "model",
        results=record,
        teacher=record.teacher,
        unit=unit,
        facts=_facts(record, unit),
        models=_models(record, run.name, unit),
        budget=shown_budget(record, singular(unit), _main_metric(record)),
        training=_training(run.history or [], record, page),
        similarity=_similarity(run, pairs),
        tokens=_tokens(run),
        groups=_groups(run.breakdown, record, page),
        groups_note=page.groups_note,
        disagreements=run.disagreements,
        segments=segments,
        arguments=_arguments(record.arguments),
        versions=Table(
            "Versions",
            ["package", "version"],
            [[Cell(k), Cell(v)] for k, v in record.environment.items()],
        ),
        version=__version__,
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
    )


# ---- headline and sizes ----


def _long_name(metric: str) -> str:
    """Of a metric such as ``mean_rank``: Mean rank."""
    return metric.replace("_", " ").capitalize()


def _main_metric(record: RunRecord) -> str:
    """The metric that a curve of quality shows: F1 where there is one, else the last one."""
    return "f1" if "f1" in record.metrics else list(record.metrics)[-1]


def _facts(record: RunRecord, unit: str) -> list[Fact]:
    teacher = record.teacher
    facts = []
    for metric in reversed(record.metrics):
        value, other = record.scores[metric], teacher and teacher.scores.get(metric)
        notes = [] if other is None else [f"teacher {other:.1f} %"]
        if other and other > 0 and value >= 0:  # of a negative correlation nothing is kept
            notes.append(f"{100 * value / other:.1f} % kept")
        facts.append(Fact(_long_name(metric), f"{value:.1f} %", notes))
    for name, attribute, shown in (
        ("Size", "stored_megabytes", "{:.1f} MB"),
        (f"Time per {singular(unit)}", "ms_per_question", "{:.1f} ms"),
    ):
        value = getattr(record, attribute)
        other = teacher and getattr(teacher, attribute)
        if value is None:
            continue
        notes = [] if other is None else [f"teacher {shown.format(other)}"]
        if other and value:
            ratio = f"{other / value:.2f} times as fast"
            notes.append(f"{100 * value / other:.0f} % of it" if name == "Size" else ratio)
        facts.append(Fact(name, shown.format(value), notes))
    for name, value in (record.decoding or {}).items():
        other = ((teacher and teacher.decoding) or {}).get(name)
        notes = [] if other is None else [f"teacher {other:.3g}"]
        facts.append(Fact(_long_name(name), f"{value:.3g}", notes))
    return facts


def _unit(record: RunRecord, page: TaskPage) -> str:
    """The noun for examples. A record that counts questions is believed, whatever the page."""
    return page.unit if record.questions is None and record.rows is not None else "questions"


def _models(record: RunRecord, name: str, unit: str) -> Table:
    """Speed and size. A column that is known of neither model is left out."""
    models: list[tuple[str, ModelRecord]] = [(name, record)]
    if record.teacher is not None:
        label = f"teacher: {public_text(record.teacher.name or '')}".removesuffix(": ")
        models = [(label, record.teacher), (f"student: {name}", record)]
    columns = {
        "layers": ("layers", "{}"),
        "parameters": ("parameters", "{:,}"),
        "megabytes_fp32": ("MB (fp32)", "{:.1f}"),
        "megabytes": ("MB", "{:.1f}"),
        "ms_per_question": (f"ms/{singular(unit)}", "{:.1f}"),
        **{metric: (f"{label} (%)", "{:.2f}") for metric, label in record.metrics.items()},
        "perplexity": ("pseudo-perplexity", "{:.2f}"),
        "examples": (unit, "{:,}"),
        "train_seconds": ("training (s)", "{:,.0f}"),
    }

    def value(model: ModelRecord, column: str) -> float | None:
        return model.scores.get(column) if column in record.metrics else getattr(model, column)

    if not record.knows_the_whole:
        del columns["train_seconds"]
    known = [c for c in columns if any(value(model, c) is not None for _, model in models)]
    return Table(
        "Quality, size and speed",
        ["model", *(columns[column][0] for column in known)],
        [
            [Cell(label), *(number(value(model, c), columns[c][1]) for c in known)]
            for label, model in models
        ],
    )


# ---- training ----


def _training(history: Sequence[LogRow], record: RunRecord, page: TaskPage) -> list[Figure]:
    """A figure a term of the loss that was logged, the correlations, and the scores that were found on the way."""
    corr_unit = "bits" if record.arguments.get("corr_log", True) else "no unit"
    mi_unit = "bits" if record.arguments.get("mi_log") else "no unit"
    units = LossUnits() if page.loss_units is None else page.loss_units(record)
    figures = []

    def add(
        title: str, series: dict[str, charts.Points], y_label: str, note: str = "", **kwargs: Any
    ) -> None:
        series = {label: points for label, points in series.items() if points}
        if series:
            svg = Markup(charts.line_chart(title, series, y_label=y_label, **kwargs))
            figures.append(Figure(title, svg, note))

    weighted = "The weighted sum of all terms, mean over the steps since the row before."
    add("Total loss", {"total": _points(history, "loss")}, "total loss (weighted sum)", weighted)
    add("Task loss", {"task": _points(history, "task")}, units.task)
    add("Logit KD", {"KD": _points(history, "kd")}, units.kd)
    add(
        "Correlation loss by layer pair",
        _by_pair(history, "corr"),
        f"correlation loss ({corr_unit})",
    )
    add("Mutual information loss by layer pair", _by_pair(history, "mi"), f"MI loss ({mi_unit})")
    add(
        "Correlation by layer pair",
        _by_pair(history, "correlation"),
        "mean correlation (1: perfect)",
        "Of student and teacher features after the projection, as the correlation loss gives it.",
        unit_interval=True,
    )
    for name in _peers(record):
        note = "A loss of another paper or of your own, without its weight."
        add(name, {name: _points(history, term_of(name))}, "loss (unit of its own)", note)
    add(
        "Scale of the losses between hidden states",
        {"scale": _points(history, "hidden_scale")},
        "factor (no unit)",
        "By which hidden_share has multiplied them, so that they hold their share of the gradient.",
    )
    on_the_way = {
        label: _points(history, f"eval_{metric}")
        for metric, label in reversed(record.metrics.items())
    }
    if any(len(points) > 1 for points in on_the_way.values()):  # one point is the end
        add("Evaluation during training", on_the_way, "score (%)")
    return figures


def _peers(record: RunRecord) -> list[str]:
    """The names of the classes in ``peer_losses``. None of them is imported: a report runs no code of others."""
    peers = record.arguments.get("peer_losses")
    return [path.rpartition(".")[2] for path in peers] if isinstance(peers, Mapping) else []


def _points(history: Iterable[LogRow], term: str) -> charts.Points:
    return [(row.step, row.values[term]) for row in history if term in row.values]


def _by_pair(history: Sequence[LogRow], term: str) -> dict[str, charts.Points]:
    """The lines of a term, student layer : teacher layer; its sum where no pair was logged."""
    pairs: list[str] = []
    for row in history:
        for name in row.values:
            match = re.fullmatch(rf"{term}_(\d+:\d+)", name)
            if match and match[1] not in pairs:
                pairs.append(match[1])
    return {pair: _points(history, f"{term}_{pair}") for pair in pairs} or {
        "sum": _points(history, term)
    }


# ---- layers ----


def _similarity(run: Run, pairs: list[tuple[int, int]]) -> list[Figure]:
    if run.similarity is None:
        return []
    figures = []
    for measure, title in (("cka", "Linear CKA"), ("correlation", "Correlation of features")):
        for when in ("before", "after"):
            matrices = getattr(run.similarity, when)
            matrix = matrices and getattr(matrices, measure)
            if matrix:
                name = f"{title} {when} training"
                figures.append(Figure(name, Markup(charts.heat_map(name, matrix, pairs))))
    return figures


def _tokens(run: Run) -> int | None:
    both = run.similarity and (run.similarity.after or run.similarity.before)
    return both.tokens if both else None


# ---- groups of examples ----


def _groups(
    breakdown: Breakdown | None, record: RunRecord, page: TaskPage
) -> list[tuple[list[Figure], Table]]:
    """For each way to group the examples: a chart a metric, and the numbers."""
    if breakdown is None:
        return []
    unit = _unit(record, page)
    sections = []
    for grouping, student in breakdown.student.items():
        if not student:
            continue
        name = page.groupings.get(grouping, grouping.replace("_", " "))
        title = f"by {name}"
        teacher = None if breakdown.teacher is None else breakdown.teacher[grouping]
        made = (
            _group_figure(metric, title, student, teacher, record, unit)
            for metric in reversed(_of_groups(student, record))
        )
        figures = [figure for figure in made if figure is not None]
        sections.append((figures, _group_table(title, student, teacher, record, unit)))
    return sections


def _of_groups(groups: Mapping[str, Group], record: RunRecord) -> dict[str, str]:
    """The metrics that groups have: those of a part of the examples are none of every group."""
    known = next(iter(groups.values())).scores if groups else {}
    return {name: label for name, label in record.metrics.items() if name in known}


def _group_figure(
    metric: str,
    title: str,
    student: Mapping[str, Group],
    teacher: Mapping[str, Group] | None,
    record: RunRecord,
    unit: str,
) -> Figure | None:
    label = _long_name(metric)
    svg = charts.group_chart(
        f"{label} {title}",
        student,
        teacher,
        field=metric,
        x_label=f"{label} (%)",
        y_label=f"{title.removeprefix('by ')} ({unit})",
        labels=("student" if record.teacher is not None else "model", "teacher"),
    )
    return None if svg is None else Figure(f"{label} {title}", Markup(svg))


def _group_table(
    title: str,
    student: Mapping[str, Group],
    teacher: Mapping[str, Group] | None,
    record: RunRecord,
    unit: str,
) -> Table:
    own = "student" if record.teacher is not None else "model"
    columns = [(own, student)] + ([("teacher", teacher)] if teacher else [])
    metrics = list(reversed(_of_groups(student, record).items()))
    rows = []
    for group, scores in student.items():
        row = [Cell(group), Cell(f"{scores.questions:,}", scores.questions)]
        for metric, _ in metrics:
            for _, by_group in columns:
                found = by_group.get(group)
                row.append(number(None if found is None else found.scores.get(metric), "{:.1f}"))
        rows.append(row)
    names = [f"{label} (%), {who}" for _, label in metrics for who, _ in columns]
    head = [title.removeprefix("by "), unit, *names]
    return Table(f"Scores {title}", head, rows)


# ---- the run ----


def _arguments(arguments: dict[str, Any]) -> Table:
    rows = []
    for name, value in sorted(public_value(arguments).items()):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        rows.append([Cell(name), Cell(text, number)])
    return Table("Arguments that are not their defaults", ["argument", "value"], rows)
