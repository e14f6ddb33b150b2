"""Rankings of a model in groups, and beside those of its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.tasks.answers import check_orders
from itrd_nlp.tasks.disagreements import Case, compared
from itrd_nlp.tasks.groups import QUERY_WORDS, by_words, grouped, means_of
from itrd_nlp.tasks.lines import Row
from itrd_nlp.tasks.reranking.metrics import mrr, ndcg


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


def breakdown(answers: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Scores by the number of words of the query, and by the number of its passages."""
    score = means_of(query_scores(answers, rows))
    counts = [len(row["passages"]) for row in rows]
    names = [str(count) for count in sorted(set(counts))]
    return {
        "words": by_words([row["query"] for row in rows], QUERY_WORDS, score),
        "passages": grouped([str(count) for count in counts], names, score),
    }


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
