"""Every metric as a function of sums over the rows, so that one definition gives the score and its interval.

The metrics are those of scikit-learn (F1, Matthews), of scipy (Pearson, Spearman) and of seqeval (entities), and the
tests hold them against these libraries. Their functions give one number for all rows. A comparison needs to know what
each row adds to it, see `row_scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.tasks.classification.analysis import judged_labels, row_accuracy
from itrd_nlp.tasks.classification.data import Kind, Row, kind_of
from itrd_nlp.tasks.classification.entities import OUTSIDE, are_tags, entities

Numbers = NDArray[np.float64]


class Sums(NamedTuple):
    """A metric of some rows.

    Attributes:
        rows: ``(rows, k)``, what each row adds to the k sums.
        value: from ``(..., k)`` sums to ``(...)`` values of the metric, 1 for 100 percent.
    """

    rows: Numbers
    value: Callable[[Numbers], Numbers]


KNOWN: dict[Kind, tuple[str, ...]] = {
    "label": (
        *("accuracy", "f1", "matthews", "positive_f1"),
        *("accuracy_matched", "accuracy_mismatched"),
    ),
    "labels": ("micro_f1", "macro_f1", "accuracy"),
    "value": ("spearman", "pearson"),
    "tokens": ("accuracy", "f1"),
}
"""Kind of rows to the metrics that they can have. Entities, which tokens with tags have, come on top."""
ENTITIES = ("entity_f1", "entity_precision", "entity_recall")


def usual_metrics(kind: Kind, names: Sequence[str]) -> tuple[str, ...]:
    """The metrics of rows where nobody asks for others; a comparison is by the first one.

    Args:
        kind: of the rows.
        names: their labels.
    """
    if kind == "label":
        return ("accuracy", "f1")
    return (*ENTITIES, *KNOWN[kind]) if kind == "tokens" and are_tags(names) else KNOWN[kind]


def possible_metrics(kind: Kind, names: Sequence[str]) -> tuple[str, ...]:
    """All metrics that rows can have. See `usual_metrics`."""
    return (*KNOWN[kind], *ENTITIES) if kind == "tokens" and are_tags(names) else KNOWN[kind]


def score(
    metric: str, rows: Sequence[Row], answers: Mapping[str, Any], positive: str | None = None
) -> float:
    """A metric of answers in percent. It is 0 where it is not defined, as of one label alone.

    Args:
        metric: one of `possible_metrics`.
        rows: as `read_rows` returns them.
        answers: number of a row to its answer. A row without one is wrong.
        positive: the label that ``positive_f1`` counts.
    """
    sums = _sums(metric, rows, answers, positive)
    return 100 * float(sums.value(sums.rows.sum(axis=0)))


def row_scores(
    metric: str, rows: Sequence[Row], answers: Mapping[str, Any], positive: str | None = None
) -> Numbers:
    """A number for each row, whose mean over the rows is the metric, for the intervals of a comparison.

    Of a metric that is a mean it is the score of the row. Of any other it is the metric plus the influence of the row,
    from the jackknife: ``(n - 1)`` times what the metric loses without the row, less the mean of this over all rows
    (Efron and Tibshirani 1993, sections 11.5 and 20.4). Resampling these numbers is resampling the rows, to first
    order.

    Returns:
        ``(rows,)``; 1 stands for 100 percent.
    """
    if metric == "accuracy" and kind_of(rows) in ("label", "tokens"):
        return row_accuracy(rows, answers)
    sums = _sums(metric, rows, answers, positive)
    whole = float(sums.value(sums.rows.sum(axis=0)))
    if len(rows) == 1:
        return np.array([whole])
    if metric == "spearman":
        without = _spearman_without(*_numbers(rows, answers))
    else:
        without = sums.value(sums.rows.sum(axis=0) - sums.rows)
    found: Numbers = whole + (len(rows) - 1) * (without.mean() - without)
    return found


def _sums(
    metric: str, rows: Sequence[Row], answers: Mapping[str, Any], positive: str | None
) -> Sums:
    kind = kind_of(rows)
    if kind == "value":
        return _pearson(*_ranked(metric, *_numbers(rows, answers)))
    if kind == "labels":
        return _of_several(metric, rows, answers)
    if metric in ENTITIES:
        return _entities(metric, rows, answers)
    pairs = [judged_labels(row, answers.get(str(i))) for i, row in enumerate(rows)]
    if metric.startswith("accuracy"):
        half = metric.removeprefix("accuracy")  # of MNLI: "_matched", "_mismatched"
        counted = [str(row.get("split", "")).endswith(half) for row in rows]
        counts = [
            (yes * sum(a == b for a, b in row), yes * len(row))
            for row, yes in zip(pairs, counted, strict=True)
        ]
        return Sums(np.array(counts, dtype=float), lambda s: _ratio(s[..., 0], s[..., 1]))
    names = sorted({name for row in pairs for pair in row for name in pair if name})
    if metric == "positive_f1":
        return _macro_f1(_counts(pairs, [str(positive)]))
    if metric == "f1" and kind == "tokens" and OUTSIDE in names:
        return _micro_f1(_counts(pairs, [name for name in names if name != OUTSIDE]))
    counts_of_names = _counts(pairs, names)
    return _macro_f1(counts_of_names) if metric == "f1" else _matthews(counts_of_names, pairs)


def _counts(pairs: Sequence[Sequence[tuple[str, str]]], names: Sequence[str]) -> Numbers:
    """``(rows, names, 3)``: how often a label is found rightly, found, and true."""
    at = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(pairs), len(names), 3))
    for i, row in enumerate(pairs):
        for true, found in row:
            if found in at:
                counts[i, at[found], :2] += (true == found, 1)
            if true in at:
                counts[i, at[true], 2] += 1
    return counts


def _ratio(part: Numbers, whole: Numbers) -> Numbers:
    ratio: Numbers = np.divide(part, whole, out=np.zeros_like(whole, dtype=float), where=whole > 0)
    return ratio


def _macro_f1(counts: Numbers) -> Sums:
    """The mean F1 of the labels that occur or are found."""
    shape = counts.shape[1:]

    def value(sums: Numbers) -> Numbers:
        right, found, true = np.moveaxis(sums.reshape(*sums.shape[:-1], *shape), -1, 0)
        return _ratio(_ratio(2 * right, found + true).sum(-1), (found + true > 0).sum(-1))

    return Sums(counts.reshape(len(counts), -1), value)


def _micro_f1(counts: Numbers) -> Sums:
    """The F1 of all labels together."""
    return Sums(counts.sum(axis=1), lambda s: _ratio(2 * s[..., 0], s[..., 1] + s[..., 2]))


def _matthews(counts: Numbers, pairs: Sequence[Sequence[tuple[str, str]]]) -> Sums:
    """Matthews' coefficient of several classes (Gorodkin 2004, eq. 8)."""
    names = counts.shape[1]
    judged = np.array([[len(row)] for row in pairs], dtype=float)

    def value(sums: Numbers) -> Numbers:
        right, found, true = np.moveaxis(sums[..., :-1].reshape(*sums.shape[:-1], names, 3), -1, 0)
        n = sums[..., -1]
        covariance = n * right.sum(-1) - (found * true).sum(-1)
        # A missing answer is a class of its own, which no row has.
        missing = n - found.sum(-1)
        spread = (n**2 - (found**2).sum(-1) - missing**2) * (n**2 - (true**2).sum(-1))
        return _ratio(covariance, np.sqrt(np.maximum(spread, 0)))

    return Sums(np.hstack([counts.reshape(len(counts), -1), judged]), value)


def _of_several(metric: str, rows: Sequence[Row], answers: Mapping[str, Any]) -> Sums:
    """Metrics of labels that may hold together. Accuracy is the share of rows with all labels right."""
    true = [set(row["labels"]) for row in rows]
    found = [set(answers.get(str(i)) or []) for i in range(len(rows))]
    if metric == "accuracy":
        given = [answers.get(str(i)) is not None for i in range(len(rows))]
        right = [g and t == f for g, t, f in zip(given, true, found, strict=True)]
        return Sums(
            np.array([(r, 1) for r in right], dtype=float), lambda s: _ratio(s[..., 0], s[..., 1])
        )
    names = sorted(set().union(*true, *found))
    counts = np.array(
        [
            [(n in t and n in f, n in f, n in t) for n in names]
            for t, f in zip(true, found, strict=True)
        ],
        dtype=float,
    ).reshape(len(rows), len(names), 3)
    return _micro_f1(counts) if metric == "micro_f1" else _macro_f1(counts)


def _entities(metric: str, rows: Sequence[Row], answers: Mapping[str, Any]) -> Sums:
    """Entities of which type, begin and end are right, over all types. Tokens that were not read are left out."""
    counts = []
    for i, row in enumerate(rows):
        pairs = judged_labels(row, answers.get(str(i)))
        true, found = (set(entities([pair[side] for pair in pairs])) for side in range(2))
        counts.append((len(true & found), len(found), len(true)))
    weights = {"entity_precision": (1, 0), "entity_recall": (0, 1), "entity_f1": (0.5, 0.5)}
    of_found, of_true = weights[metric]
    return Sums(
        np.array(counts, dtype=float),
        lambda s: _ratio(s[..., 0], of_found * s[..., 1] + of_true * s[..., 2]),
    )


def _numbers(rows: Sequence[Row], answers: Mapping[str, Any]) -> tuple[Numbers, Numbers]:
    """The true numbers and those found. A row without an answer has the mean of the others, which says nothing."""
    true = np.array([row["label"] for row in rows], dtype=float)
    given = [answers.get(str(i)) for i in range(len(rows))]
    known = [float(one) for one in given if one is not None]
    mean = float(np.mean(known)) if known else 0.0
    return true, np.array([mean if one is None else float(one) for one in given])


def _ranked(metric: str, *values: Numbers) -> list[Numbers]:
    """Spearman's coefficient is Pearson's of the ranks; equal values have the mean of their ranks."""
    if metric != "spearman":
        return list(values)
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # slow to import

    return [rankdata(one) for one in values]


def _pearson(true: Numbers, found: Numbers) -> Sums:
    x, y = (one - one.mean() for one in (true, found))  # no cancellation in the sums below
    x, y = (one / (np.abs(one).max() or 1) for one in (x, y))
    return Sums(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1), _correlation)


def _correlation(sums: Numbers) -> Numbers:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.maximum((n * xx - x * x) * (n * yy - y * y), 0)
    # The spread of equal numbers is 0 but for rounding.
    return _ratio(n * xy - x * y, np.where(spread > 1e-18 * n**4, np.sqrt(spread), 0))


def _spearman_without(true: Numbers, found: Numbers) -> Numbers:
    """Spearman's coefficient of all rows but one, for each row: the ranks above the one fall by 1, the equal by 1/2."""
    ranks = _ranked("spearman", true, found)
    without = np.empty(len(true))
    for i in range(len(true)):
        x, y = (
            np.delete(rank - (one > one[i]) - 0.5 * (one == one[i]), i)
            for rank, one in zip(ranks, (true, found), strict=True)
        )
        sums = _pearson(x, y).rows.sum(axis=0)
        without[i] = _correlation(sums)
    return without
