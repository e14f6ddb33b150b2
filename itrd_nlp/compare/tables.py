"""Records of a comparison as one table: markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.compare.statistics import (
    RESAMPLES,
    Difference,
    mean_and_deviation,
    paired_bootstrap,
)
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_text
from itrd_nlp.training.record import recorded_metrics

TEACHER = "teacher"
SOURCES = "sources"
_NOTHING = "-"


@dataclass(frozen=True)
class Row:
    """A method on a student, over its seeds; or the teacher.

    Attributes:
        metrics: name of a metric to its heading.
        main_metric: the metric of `difference`.
        scores: metric to its mean and its standard deviation in percent; the latter is NaN for one seed.
        difference: of the main metric, in points; None for the reference and the teacher.
        seconds: the mean over the trainings that ran in one go.
        cost: seconds a step.
    """

    student: str
    method: str
    layers: int
    parameters: int
    megabytes: float
    seeds: int
    metrics: Mapping[str, str]
    main_metric: str
    scores: Mapping[str, tuple[float, float]]
    difference: Difference | None = None
    seconds: float | None = None
    cost: float | None = None

    @property
    def main(self) -> float:
        """The mean of the main metric."""
        return self.scores[self.main_metric][0]

    @property
    def main_std(self) -> float:
        """The standard deviation of the main metric."""
        return self.scores[self.main_metric][1]

    @property
    def heading(self) -> str:
        """The heading of the main metric."""
        return self.metrics[self.main_metric]


COLUMNS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "layers": ("layers", lambda row: str(row.layers)),
    "parameters": ("parameters (M)", lambda row: f"{row.parameters / 1e6:.1f}"),
    "megabytes": ("MB (fp32)", lambda row: f"{row.megabytes:.1f}"),
    "seeds": ("seeds", lambda row: str(row.seeds) if row.seeds else _NOTHING),
    "difference": ("MAIN - REFERENCE [95% interval]", lambda row: _difference(row.difference)),
    "p_value": ("p", lambda row: _p_value(row.difference)),
    "seconds": ("seconds", lambda row: _NOTHING if row.seconds is None else f"{row.seconds:.0f}"),
    "cost": ("seconds/step", lambda row: _NOTHING if row.cost is None else f"{row.cost:.3f}"),
}
"""The columns of a table beside those of the metrics, which stand before the difference."""


def all_columns(metrics: Mapping[str, str]) -> list[str]:
    """The names of all columns in their order."""
    names = list(COLUMNS)
    at = names.index("difference")
    return [*names[:at], *metrics, *names[at:]]


def summarise(
    records: Sequence[Mapping[str, Any]],
    scores: Mapping[str, NDArray[Any]],
    *,
    reference: str,
    main_metric: str = "f1",
) -> list[Row]:
    """One row for each method on each student, after one for the teacher of that student.

    Args:
        records: as `collect` returns them; those of a search are passed over.
        scores: of every example of every training, and the sources of the examples, as `collect` returns them.
        reference: the method that differences are taken to. Where a student was not trained with it there is none.
        main_metric: the metric of the differences.

    Raises:
        UserError: trainings of one student were judged on different questions, or had other teachers or training data.
    """
    groups: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for record in records:
        if record["stage"] == "cells":
            methods = groups.setdefault(record["student"], {})
            methods.setdefault(record["method"], []).append(record)
    rows = []
    for student, methods in groups.items():
        everything = [record for group in methods.values() for record in group]
        if len({record["signature"] for record in everything}) > 1:
            raise UserError(
                f"the trainings of student {student} were judged on different questions, so they cannot be compared."
            )
        _check_origin(student, everything)
        metrics = recorded_metrics(everything[0])
        rows.append(_teacher_row(student, everything[0]["teacher"], metrics, main_metric))
        sources = scores.get(f"{student}/{SOURCES}")
        differences = _differences(methods, scores, sources, reference, main_metric)
        rows += [
            _row(group, metrics, main_metric, differences.get(method))
            for method, group in methods.items()
        ]
    return rows


def _check_origin(student: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse trainings whose teachers or data differ, although their configs name the same. Old records say less.

    Raises:
        UserError: names two trainings and what has changed between them.
    """
    first: dict[str, tuple[Any, str]] = {}
    for record in records:
        known = {"teacher": record["teacher"].get("weights")}
        known |= {name: data.get("sha256") for name, data in (record.get("datasets") or {}).items()}
        for name, digest in known.items():
            if digest is None:
                continue
            before, other = first.setdefault(name, (digest, record["name"]))
            if before != digest:
                what = (
                    "teachers with other weights" if name == "teacher" else f"another {name} file"
                )
                raise UserError(
                    f"{other} and {record['name']} had {what}, so student {student} has no common row; train them anew "
                    "in another output_dir."
                )


def markdown(rows: Sequence[Row], columns: Sequence[str], *, reference: str) -> str:
    """The table in GitHub's markdown."""
    header, cells = _cells(rows, columns, reference)
    rule = ["---", "---", *["---:"] * len(columns)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *cells))


def latex(rows: Sequence[Row], columns: Sequence[str], *, reference: str) -> str:
    """The table as a `tabular` with the rules of booktabs."""
    import pandas

    header, cells = _cells(rows, columns, reference)
    style = pandas.DataFrame(cells, columns=header).style.hide(axis="index")
    style = style.format(escape="latex").format_index(escape="latex", axis=1)
    text: str = style.to_latex(hrules=True, column_format="ll" + "r" * len(columns))
    return text.replace("±", r"$\pm$").replace("< ", "$<$ ")  # <: another character in OT1


def csv(rows: Sequence[Row]) -> str:
    """All figures, not rounded, a line for each row."""
    import pandas

    lines = []
    for row in rows:
        line = asdict(row)
        for name in ("metrics", "main_metric", "seconds", "cost", "scores", "difference"):
            line.pop(name)
        for name, (mean, deviation) in row.scores.items():
            line |= {name: mean, f"{name}_std": deviation}
        line |= {"seconds": row.seconds, "cost": row.cost}
        difference = dict.fromkeys(("mean", "low", "high", "p_value"))
        if row.difference is not None:
            difference = asdict(row.difference)
        of_main = f"{row.main_metric}_difference"
        names = (of_main, f"{of_main}_low", f"{of_main}_high", "p_value")
        lines.append(line | dict(zip(names, difference.values(), strict=True)))
    return str(pandas.DataFrame(lines).to_csv(index=False))


def note(
    rows: Sequence[Row], *, examples: int, unit: str, sources: str | None, reference: str
) -> str:
    """Sentences about the figures of the table.

    Args:
        rows: of the table.
        examples: number of examples that were judged.
        unit: the noun for them, such as ``questions``.
        sources: the noun for their sources, such as ``articles``; None where each is a source by itself.
        reference: the method that differences are taken to.
    """
    drawn = unit if sources is None else f"{sources} of the {unit}"
    main = rows[0].heading
    sentences = [
        f"{' and '.join(rows[0].metrics.values())} in percent on {examples:,} {unit}, mean ± standard deviation over "
        "seeds.",
        f"Interval and p of the {main} difference to {reference}: paired bootstrap over the seeds that both have and "
        f"over the {drawn}, {RESAMPLES:,} resamples. With one seed the chance of the seeds is not in it, "
        "and with two it is too narrow where seeds differ much.",
        "Seconds: the whole training, which may have read the teacher's outputs from a cache.",
    ]
    if any(row.cost is not None for row in rows):
        sentences.append(
            "Seconds/step: of a short training by itself, teacher included, without the cache."
        )
    return " ".join(sentences)


def write_tables(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    rows: Sequence[Row],
    columns: Sequence[str],
    *,
    reference: str,
    unit: str = "questions",
    sources: str | None = None,
) -> str:
    """Write `table.md`, `table.tex` and `table.csv`; return the markdown.

    Args:
        folder: where to.
        records: as `collect` returns them.
        rows: as `summarise` returns them.
        columns: the columns; all where it is empty.
        reference: the method that differences are taken to.
        unit: the noun for the examples, in the plural.
        sources: the noun for their sources, in the plural; None where each is a source by itself.
    """
    judged = next(r for r in records if r["stage"] == "cells")
    examples = judged["rows"] if judged.get("questions") is None else judged["questions"]
    text = note(rows, examples=examples, unit=unit, sources=sources, reference=reference)
    columns = columns or all_columns(rows[0].metrics)
    table = markdown(rows, columns, reference=reference) + f"\n{text}\n"
    comment = f"% {text.replace('±', '+-')}\n"
    files = {
        "table.md": table,
        "table.tex": comment + latex(rows, columns, reference=reference),
        "table.csv": csv(rows),
    }
    for name, content in files.items():
        write_text(folder / name, content)
    return table


def _differences(
    methods: Mapping[str, Sequence[Mapping[str, Any]]],
    scores: Mapping[str, NDArray[Any]],
    sources: NDArray[Any] | None,
    reference: str,
    main_metric: str,
) -> dict[str, Difference]:
    """Over the seeds that both have: a comparison that is not finished has more of one than of the other."""
    seeds = {
        method: {record["name"].rpartition("/")[2]: record["name"] for record in group}
        for method, group in methods.items()
    }
    found = {}
    for method, of_method in seeds.items():
        of_reference = seeds.get(reference, {})
        both = sorted(of_method.keys() & of_reference.keys())
        if method != reference and both:
            found[method] = paired_bootstrap(
                np.stack(
                    [
                        100.0 * scores[f"{of_method[s]}/{main_metric}"].astype(np.float64)
                        - 100.0 * scores[f"{of_reference[s]}/{main_metric}"].astype(np.float64)
                        for s in both
                    ]
                ),
                sources,
            )
    return found


def _row(
    records: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, str],
    main_metric: str,
    difference: Difference | None,
) -> Row:
    first = records[0]
    seconds = [r["train_seconds"] for r in records if r["train_seconds"] is not None]
    return Row(
        student=first["student"],
        method=first["method"],
        layers=first["layers"],
        parameters=first["parameters"],
        megabytes=first["megabytes_fp32"],
        seeds=len(records),
        metrics=metrics,
        main_metric=main_metric,
        scores={name: mean_and_deviation([r[name] for r in records]) for name in metrics},
        difference=difference,
        seconds=mean_and_deviation(seconds)[0] if seconds else None,
        cost=first["cost"],
    )


def _teacher_row(
    student: str, teacher: Mapping[str, Any], metrics: Mapping[str, str], main_metric: str
) -> Row:
    return Row(
        student=student,
        method=TEACHER,
        layers=teacher["layers"],
        parameters=teacher["parameters"],
        megabytes=teacher["megabytes_fp32"],
        seeds=0,
        metrics=metrics,
        main_metric=main_metric,
        scores={name: (teacher[name], math.nan) for name in metrics},
    )


def _cells(
    rows: Sequence[Row], columns: Sequence[str], reference: str
) -> tuple[list[str], list[list[str]]]:
    def heading(column: str) -> str:
        if column in rows[0].metrics:
            return rows[0].metrics[column]
        text = COLUMNS[column][0]
        return text.replace("REFERENCE", reference).replace("MAIN", rows[0].heading)

    def cell(row: Row, column: str) -> str:
        return _mean(*row.scores[column]) if column in row.metrics else COLUMNS[column][1](row)

    cells = [[r.student, r.method, *(cell(r, column) for column in columns)] for r in rows]
    return ["student", "method", *map(heading, columns)], cells


def _mean(mean: float, deviation: float) -> str:
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return _NOTHING
    return f"{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


def _p_value(difference: Difference | None) -> str:
    if difference is None:
        return _NOTHING
    return "< 0.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}"
