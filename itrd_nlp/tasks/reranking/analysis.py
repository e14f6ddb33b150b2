"""Rankings of a model in groups, and beside those of its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.answers import answers_to
from itrd_nlp.tasks.disagreements import count_disagreements
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
    counts = [len(row["passages"]) for row in rows]
    return check_orders(answers, counts, where, whose="its", first="best")


def check_orders(
    answers: Mapping[str, Any], counts: Sequence[int], where: str, *, whose: str, first: str
) -> dict[str, Any]:
    """Refuse answers that are no lists of numbers of passages.

    Args:
        answers: number of a query, from 0 on, to the numbers of passages.
        counts: of each query how many passages there are to choose from.
        where: name of the file, for the sentence.
        whose: whose passages they are, for the sentence.
        first: which of them comes first, for the sentence.

    Returns:
        The answers to the queries that there are.

    Raises:
        UserError: names the query.
    """
    kept = answers_to(answers, len(counts), where, "queries")
    for name, order in kept.items():
        count = counts[int(name)]
        numbers = isinstance(order, list) and all(
            isinstance(i, int) and not isinstance(i, bool) and 0 <= i < count for i in order
        )
        if not numbers or len(set(order)) != len(order):
            raise UserError(
                f"{where}: the answer to query {name} must be a list of numbers of {whose} {count} passages, from 0 on "
                f"and each once, the {first} first."
            )
    return kept


def by_words(
    scores: Mapping[str, NDArray[np.floating]], rows: Sequence[Row]
) -> dict[str, dict[str, float]]:
    """Mean scores of the queries in groups by their number of words, in percent."""
    names = [*(name for _, name in _WORDS), "16 or more"]

    def group(row: Row) -> str:
        words = len(row["query"].split())
        return next((name for most, name in _WORDS if words <= most), names[-1])

    return _grouped(scores, [group(row) for row in rows], names)


def breakdown(answers: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Scores by the number of words of the query, and by the number of its passages."""
    scores = query_scores(answers, rows)
    counts = [len(row["passages"]) for row in rows]
    names = [str(count) for count in sorted(set(counts))]
    return {
        "words": by_words(scores, rows),
        "passages": _grouped(scores, [str(count) for count in counts], names),
    }


def _grouped(
    scores: Mapping[str, NDArray[np.floating]], groups: Sequence[str], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Number and mean scores of each group, in the order of the names."""
    found: dict[str, dict[str, float]] = {}
    for name in names:
        part = [i for i, group in enumerate(groups) if group == name]
        if part:
            means = {metric: 100 * float(values[part].mean()) for metric, values in scores.items()}
            found[name] = {"questions": len(part)} | means
    return found


def sources_of(rows: Sequence[Row]) -> NDArray[Any] | None:
    """The number of each row's source, None where no row names one. A row without a source is one by itself."""
    if all(row["source"] is None for row in rows):
        return None
    numbers: dict[Any, int] = {}
    names = [i if row["source"] is None else row["source"] for i, row in enumerate(rows)]
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])


Case = tuple[str, Sequence[str], Sequence[str], Sequence[bool]]
"""An example, its true answers, the answers of student and teacher, and whether they are right."""


def disagreements(
    student: Mapping[str, Any], teacher: Mapping[str, Any], rows: Sequence[Row]
) -> dict[str, Any]:
    """The queries for which two models put another passage first; see `Disagreements` of the report.

    Args:
        student: number of a query to the numbers of its passages, the best first.
        teacher: the same of the teacher.
        rows: as `read_queries` returns them.
    """
    cases: list[Case] = []
    for i, row in enumerate(rows):
        passages, labels = row["passages"], row["labels"]
        first = [next(iter(found.get(str(i), [])), None) for found in (student, teacher)]
        if first[0] != first[1]:
            right = [n is not None and labels[n] > 0 for n in first]
            texts = ["" if n is None else passages[n] for n in first]
            relevant = [p for p, label in zip(passages, labels, strict=True) if label > 0]
            cases.append((row["query"], relevant, texts, right))
    return compared(cases, len(rows))


def compared(cases: Sequence[Case], count: int, *, show: int = 20) -> dict[str, Any]:
    """The content of `itrd_nlp.publish.report.data.Disagreements`.

    Args:
        cases: the examples that two models answer differently.
        count: number of all examples.
        show: examples to return, taken at even distances.
    """
    return count_disagreements(
        cases, count, right=lambda case: (case[3][1], case[3][0]), shown=_shown, show=show
    )


def _shown(case: Case) -> dict[str, Any]:
    question, true, texts, right = case
    return {
        "question": question,
        "context": "",
        "references": [{"text": _short(text)} for text in true[:3]],
        "student": {"text": _short(texts[0]), "exact_match": bool(right[0])},
        "teacher": {"text": _short(texts[1]), "exact_match": bool(right[1])},
    }


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
