"""Rankings of a model in groups, and beside those of its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.reranking.data import Row
from itrd_nlp.tasks.reranking.metrics import mrr, ndcg

SHOWN = 300
_WORDS = ((5, "1 to 5"), (10, "6 to 10"), (15, "11 to 15"))


def query_scores(
    answers: Mapping[str, Any], rows: Sequence[Row]
) -> dict[str, NDArray[np.floating]]:
    """nDCG@10 and MRR@10 of every query, from 0 to 1. A query without an answer has 0."""
    found = [(answers.get(str(i), []), row["labels"]) for i, row in enumerate(rows)]
    return {
        "ndcg_10": np.array([ndcg(order, labels) for order, labels in found]),
        "mrr_10": np.array([mrr(order, labels) for order, labels in found]),
    }


def mean_scores(answers: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, float]:
    """The means of `query_scores` in percent."""
    scores = query_scores(answers, rows)
    return {name: 100 * float(values.mean()) for name, values in scores.items()}


def check_answers(answers: Mapping[str, Any], rows: Sequence[Row], where: str) -> dict[str, Any]:
    """Refuse answers that are no rankings of these passages.

    Args:
        answers: number of a query, from 0 on, to the numbers of its passages, the best first.
        rows: as `read_queries` returns them.
        where: name of the file, for the sentence.

    Raises:
        UserError: names the query.
    """
    kept = {str(i): answers[str(i)] for i in range(len(rows)) if str(i) in answers}
    for name, order in kept.items():
        count = len(rows[int(name)]["passages"])
        numbers = isinstance(order, list) and all(
            isinstance(i, int) and not isinstance(i, bool) and 0 <= i < count for i in order
        )
        if not numbers or len(set(order)) != len(order):
            raise UserError(
                f"{where}: the answer to query {name} must be a list of numbers of its {count} passages, from 0 on and "
                "each once, the best first."
            )
    if not kept:
        raise UserError(
            f"{where}: none of the {len(answers)} answers has the number of one of the {len(rows)} queries."
        )
    return kept


def breakdown(answers: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Scores by the number of words of the query, and by the number of its passages."""
    scores = query_scores(answers, rows)
    groups: dict[str, dict[str, list[int]]] = {"words": {}, "passages": {}}
    for i, row in enumerate(rows):
        words = len(row["query"].split())
        name = next((name for most, name in _WORDS if words <= most), "16 or more")
        groups["words"].setdefault(name, []).append(i)
        groups["passages"].setdefault(str(len(row["passages"])), []).append(i)
    order = [name for _, name in _WORDS] + ["16 or more"]
    keys: dict[str, Any] = {"words": order.index, "passages": int}
    return {
        grouping: {
            name: {"questions": len(parts[name])}
            | {metric: 100 * float(values[parts[name]].mean()) for metric, values in scores.items()}
            for name in sorted(parts, key=keys[grouping])
        }
        for grouping, parts in groups.items()
    }


def disagreements(
    student: Mapping[str, Any], teacher: Mapping[str, Any], rows: Sequence[Row], *, show: int = 20
) -> dict[str, Any]:
    """The queries for which two models put another passage first; see `Disagreements` of the report.

    Args:
        student: number of a query to the numbers of its passages, the best first.
        teacher: the same of the teacher.
        rows: as `read_queries` returns them.
        show: queries to return, taken at even distances.
    """
    differing = []
    for i, row in enumerate(rows):
        first = {
            who: next(iter(answers.get(str(i), [])), None)
            for who, answers in (("student", student), ("teacher", teacher))
        }
        if first["student"] != first["teacher"]:
            right = {who: n is not None and row["labels"][n] > 0 for who, n in first.items()}
            differing.append((row, first, right))
    counts = [(right["teacher"], right["student"]) for _, _, right in differing]
    shown = differing
    if len(differing) > show:
        shown = [differing[i * len(differing) // show] for i in range(show)]
    return {
        "questions": len(rows),
        "teacher_right": counts.count((True, False)),
        "student_right": counts.count((False, True)),
        "both_right": counts.count((True, True)),
        "neither_right": counts.count((False, False)),
        "examples": [_shown(*case) for case in shown],
    }


def _shown(row: Row, first: Mapping[str, int | None], right: Mapping[str, bool]) -> dict[str, Any]:
    relevant = [p for p, label in zip(row["passages"], row["labels"], strict=True) if label > 0]
    texts = {who: "" if n is None else row["passages"][n] for who, n in first.items()}
    return {
        "question": row["query"],
        "context": "",
        "references": [{"text": _short(text)} for text in relevant[:3]],
    } | {who: {"text": _short(text), "exact_match": right[who]} for who, text in texts.items()}


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
