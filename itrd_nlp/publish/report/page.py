"""The page of a report: what `read_run` found, as HTML."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from itrd_nlp import __version__
from itrd_nlp.publish.privacy import public_command, public_config, public_text, public_value
from itrd_nlp.publish.report import charts
from itrd_nlp.publish.report.data import Breakdown, Disagreement, Evaluation, LogRow, Results, Run

HERE = Path(__file__).parent
ABSENT = "n/a"


class Cell(NamedTuple):
    """A cell of a table: what it shows and, for a number, what it is sorted by."""

    text: str
    value: float | None = None


@dataclass
class Table:
    """A table that can be sorted by each of its columns; the first one names the rows."""

    caption: str
    head: list[str]
    rows: list[list[Cell]]

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers alone, as far as they are known."""
        cells = [row[column] for row in self.rows]
        return any(cell.value is not None for cell in cells) and all(
            cell.value is not None or cell.text == ABSENT for cell in cells
        )


@dataclass
class Figure:
    """A chart or several of one kind, and what they show."""

    title: str
    svg: Markup
    note: str = ""


@dataclass
class Fact:
    """A number of the headline."""

    name: str
    value: str
    notes: list[str] = field(default_factory=list)


class Segment(NamedTuple):
    """A piece of a context: whose answers it belongs to, and whose answers begin with it."""

    text: str
    roles: list[str]
    begins: list[str]


def render(run: Run) -> str:
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
    results = run.results
    script = (HERE / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pairs = [(int(i), int(j)) for i, j in (pair.split(":") for pair in results.layer_pairs)]
    return environment.get_template("template.html.jinja").render(
        name=run.name,
        own="student" if results.teacher is not None else "model",
        results=results,
        teacher=results.teacher,
        facts=_facts(results),
        models=_models(results, run.name),
        training=_training(run.history or [], results),
        similarity=_similarity(run, pairs),
        tokens=_tokens(run),
        groups=_groups(run.breakdown, results),
        disagreements=run.disagreements,
        segments=segments,
        arguments=_arguments(results.arguments),
        versions=Table(
            "Versions",
            ["package", "version"],
            [[Cell(k), Cell(v)] for k, v in results.environment.items()],
        ),
        version=__version__,
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
    )


# ---- headline and sizes ----


def _facts(results: Results) -> list[Fact]:
    teacher = results.teacher
    facts = []
    for name, value, other in (
        ("F1", results.f1, teacher and teacher.f1),
        ("Exact match", results.exact_match, teacher and teacher.exact_match),
    ):
        notes = [] if other is None else [f"teacher {other:.1f} %"]
        if other:
            notes.append(f"{100 * value / other:.1f} % kept")
        facts.append(Fact(name, f"{value:.1f} %", notes))
    for name, attribute, shown in (
        ("Size", "megabytes_fp32", "{:.1f} MB"),
        ("Time per question", "ms_per_question", "{:.1f} ms"),
    ):
        value = getattr(results, attribute)
        other = teacher and getattr(teacher, attribute)
        if value is None:
            continue
        notes = [] if other is None else [f"teacher {shown.format(other)}"]
        if other and value:
            ratio = f"{other / value:.2f} times as fast"
            notes.append(f"{100 * value / other:.0f} % of it" if name == "Size" else ratio)
        facts.append(Fact(name, shown.format(value), notes))
    return facts


def _models(results: Results, name: str) -> Table:
    """Speed and size; a column that is known of neither model is left out."""
    models: list[tuple[str, Evaluation]] = [(name, results)]
    if results.teacher is not None:
        models = [
            (
                f"teacher: {public_text(results.teacher.name or '')}".removesuffix(": "),
                results.teacher,
            ),
            (f"student: {name}", results),
        ]
    columns = {
        "layers": ("layers", "{}"),
        "parameters": ("parameters", "{:,}"),
        "megabytes_fp32": ("MB (fp32)", "{:.1f}"),
        "ms_per_question": ("ms/question", "{:.1f}"),
        "exact_match": ("EM (%)", "{:.2f}"),
        "f1": ("F1 (%)", "{:.2f}"),
        "questions": ("questions", "{:,}"),
        "train_seconds": ("training (s)", "{:,.0f}"),
    }
    known = [c for c in columns if any(getattr(model, c) is not None for _, model in models)]
    return Table(
        "Quality, size and speed",
        ["model", *(columns[column][0] for column in known)],
        [
            [Cell(label), *(_number(getattr(model, c), columns[c][1]) for c in known)]
            for label, model in models
        ],
    )


def _number(value: float | None, shown: str) -> Cell:
    return Cell(ABSENT) if value is None else Cell(shown.format(value), value)


# ---- training ----


def _training(history: Sequence[LogRow], results: Results) -> list[Figure]:
    """A figure a term of the loss that was logged, the correlations, and F1 where it was evaluated on the way."""
    mi_unit = "bits" if results.arguments.get("mi_log") else "no unit"
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
    add("Task loss", {"task": _points(history, "task")}, "cross entropy (nats)")
    add("Logit KD", {"KD": _points(history, "kd")}, "T² KL (nats)")
    add("Correlation loss by layer pair", _by_pair(history, "corr"), "correlation loss (bits)")
    add("Mutual information loss by layer pair", _by_pair(history, "mi"), f"MI loss ({mi_unit})")
    add(
        "Correlation by layer pair",
        _by_pair(history, "correlation"),
        "mean correlation (1: perfect)",
        "Of student and teacher features after the projection, as the correlation loss gives it.",
        unit_interval=True,
    )
    on_the_way = {
        "F1": _points(history, "eval_f1"),
        "EM": _points(history, "eval_exact_match"),
    }
    if len(on_the_way["F1"]) > 1:  # one point is the end, which the headline has
        add("Evaluation during training", on_the_way, "score (%)")
    return figures


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


# ---- groups of questions ----


def _groups(breakdown: Breakdown | None, results: Results) -> list[tuple[Figure, Figure, Table]]:
    """For types of question and lengths of answer: F1, EM, and the numbers."""
    if breakdown is None:
        return []
    own = "student" if results.teacher is not None else "model"
    sections = []
    for attribute, title, head in (
        ("question_type", "by type of question", "type"),
        ("answer_length", "by length of the answer", "words"),
    ):
        student = getattr(breakdown.student, attribute)
        teacher = None if breakdown.teacher is None else getattr(breakdown.teacher, attribute)
        figures = []
        for score, label in (("f1", "F1"), ("exact_match", "Exact match")):
            name = f"{label} {title}"
            svg = charts.group_chart(
                name,
                student,
                teacher,
                field=score,
                x_label=f"{label} (%)",
                y_label=f"{head} (questions)",
                labels=(own, "teacher"),
            )
            figures.append(Figure(name, Markup(svg)))
        columns = [(own, student)] + ([("teacher", teacher)] if teacher else [])
        rows = []
        for group, scores in student.items():
            row = [Cell(group), Cell(f"{scores.questions:,}", scores.questions)]
            for score in ("f1", "exact_match"):
                for _, by_group in columns:
                    found = by_group.get(group)
                    row.append(_number(found and getattr(found, score), "{:.1f}"))
            rows.append(row)
        names = [f"{label}, {who}" for label in ("F1 (%)", "EM (%)") for who, _ in columns]
        table = Table(f"Scores {title}", [head, "questions", *names], rows)
        sections.append((figures[0], figures[1], table))
    return sections


# ---- disagreements ----


def segments(case: Disagreement) -> list[Segment]:
    """Cut a context where an answer of the reference, the teacher or the student begins or ends.

    References are marked at their place. Of a prediction the text alone is recorded, so it is marked wherever it
    stands.
    """
    spans = [("reference", r.start, r.start + len(r.text)) for r in case.references]
    for role in ("teacher", "student"):
        text = getattr(case, role).text
        spans += [(role, start, start + len(text)) for start in _occurrences(text, case.context)]
    length = len(case.context)
    spans = [(role, start, min(end, length)) for role, start, end in spans if start < length]
    cuts = sorted({0, length, *(s for _, s, _ in spans), *(e for _, _, e in spans)})
    result = []
    before: set[str] = set()
    for start, end in itertools.pairwise(cuts):
        roles = {role for role, s, e in spans if s <= start and end <= e}
        begins = sorted(roles - before)
        result.append(Segment(case.context[start:end], sorted(roles), begins))
        before = roles
    return result


def _occurrences(text: str, context: str) -> list[int]:
    """Where a text stands in a context: as whole words, if it does so anywhere."""
    if not text:
        return []
    found = re.escape(text)
    whole = [match.start() for match in re.finditer(rf"(?<!\w){found}(?!\w)", context)]
    return whole or [match.start() for match in re.finditer(found, context)]


# ---- the run ----


def _arguments(arguments: dict[str, Any]) -> Table:
    rows = []
    for name, value in sorted(public_value(arguments).items()):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        rows.append([Cell(name), Cell(text, number)])
    return Table("Arguments that are not their defaults", ["argument", "value"], rows)
