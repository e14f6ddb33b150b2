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

TEACHER = "teacher"
_NOTHING = "-"


@dataclass(frozen=True)
class Row:
    """A method on a student, over its seeds; or the teacher.

    Scores are in percent; their standard deviations are NaN for one seed. `difference` is in F1 points, None for the
    reference and the teacher. `seconds` is the mean over the trainings that ran in one go, `cost` is seconds a step.
    """

    student: str
    method: str
    layers: int
    parameters: int
    megabytes: float
    seeds: int
    exact_match: float
    exact_match_std: float
    f1: float
    f1_std: float
    difference: Difference | None = None
    seconds: float | None = None
    cost: float | None = None


COLUMNS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "layers": ("layers", lambda row: str(row.layers)),
    "parameters": ("parameters (M)", lambda row: f"{row.parameters / 1e6:.1f}"),
    "megabytes": ("MB (fp32)", lambda row: f"{row.megabytes:.1f}"),
    "seeds": ("seeds", lambda row: str(row.seeds) if row.seeds else _NOTHING),
    "exact_match": ("EM", lambda row: _mean(row.exact_match, row.exact_match_std)),
    "f1": ("F1", lambda row: _mean(row.f1, row.f1_std)),
    "difference": ("F1 - REFERENCE [95% interval]", lambda row: _difference(row.difference)),
    "p_value": ("p", lambda row: _p_value(row.difference)),
    "seconds": ("seconds", lambda row: _NOTHING if row.seconds is None else f"{row.seconds:.0f}"),
    "cost": ("seconds/step", lambda row: _NOTHING if row.cost is None else f"{row.cost:.3f}"),
}


def summarise(
    records: Sequence[Mapping[str, Any]], scores: Mapping[str, NDArray[Any]], *, reference: str
) -> list[Row]:
    """One row for each method on each student, after one for the teacher of that student.

    Args:
        records: as `collect` returns them; those of a search are passed over.
        scores: F1 of every question of every training, as `collect` returns them.
        reference: the method that differences are taken to. Where a student was not trained with it there is none.

    Raises:
        UserError: trainings of one student were judged on different questions.
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
        rows.append(_teacher_row(student, everything[0]["teacher"]))
        differences = _differences(methods, scores, reference)
        rows += [_row(group, differences.get(method)) for method, group in methods.items()]
    return rows


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
        difference = line.pop("difference") or dict.fromkeys(("mean", "low", "high", "p_value"))
        names = ("f1_difference", "f1_difference_low", "f1_difference_high", "p_value")
        lines.append(line | dict(zip(names, difference.values(), strict=True)))
    return str(pandas.DataFrame(lines).to_csv(index=False))


def note(rows: Sequence[Row], *, questions: int, reference: str) -> str:
    """What the figures of the table are, in sentences."""
    sentences = [
        f"EM and F1 in percent on {questions:,} questions, mean ± standard deviation over seeds.",
        f"Interval and p of the F1 difference to {reference}: paired bootstrap over the questions, each question's F1 "
        f"averaged first over the seeds that both have, {RESAMPLES:,} resamples; the chance of the seeds is not in it.",
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
) -> str:
    """Write `table.md`, `table.tex` and `table.csv`; return the markdown."""
    questions = next(r["questions"] for r in records if r["stage"] == "cells")
    text = note(rows, questions=questions, reference=reference)
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
    reference: str,
) -> dict[str, Difference]:
    """Over the seeds that both have: a comparison that is not finished has more of one than of the other."""
    seeds = {
        method: {record["name"].rpartition("/")[2]: record["name"] for record in group}
        for method, group in methods.items()
    }
    gains = {}
    for method in methods:
        both = sorted(seeds[method].keys() & seeds.get(reference, {}).keys())
        if method != reference and both:
            of_method, of_reference = (
                np.mean([scores[f"{seeds[m][s]}/f1"] for s in both], axis=0, dtype=np.float64)
                for m in (method, reference)
            )
            gains[method] = 100 * of_method - 100 * of_reference
    if not gains:
        return {}
    differences = paired_bootstrap(np.stack(list(gains.values())))
    return dict(zip(gains, differences, strict=True))


def _row(records: Sequence[Mapping[str, Any]], difference: Difference | None) -> Row:
    first = records[0]
    exact_match, exact_match_std = mean_and_deviation([r["exact_match"] for r in records])
    f1, f1_std = mean_and_deviation([r["f1"] for r in records])
    seconds = [r["train_seconds"] for r in records if r["train_seconds"] is not None]
    return Row(
        student=first["student"],
        method=first["method"],
        layers=first["layers"],
        parameters=first["parameters"],
        megabytes=first["megabytes_fp32"],
        seeds=len(records),
        exact_match=exact_match,
        exact_match_std=exact_match_std,
        f1=f1,
        f1_std=f1_std,
        difference=difference,
        seconds=mean_and_deviation(seconds)[0] if seconds else None,
        cost=first["cost"],
    )


def _teacher_row(student: str, teacher: Mapping[str, Any]) -> Row:
    return Row(
        student=student,
        method=TEACHER,
        layers=teacher["layers"],
        parameters=teacher["parameters"],
        megabytes=teacher["megabytes_fp32"],
        seeds=0,
        exact_match=teacher["exact_match"],
        exact_match_std=math.nan,
        f1=teacher["f1"],
        f1_std=math.nan,
    )


def _cells(
    rows: Sequence[Row], columns: Sequence[str], reference: str
) -> tuple[list[str], list[list[str]]]:
    names = [COLUMNS[column][0].replace("REFERENCE", reference) for column in columns]
    cells = [[r.student, r.method, *(COLUMNS[column][1](r) for column in columns)] for r in rows]
    return ["student", "method", *names], cells


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
