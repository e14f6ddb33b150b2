"""Every metric as a function of sums over the rows, so that one definition gives the score and its interval.

The metrics are those of scikit-learn (F1, Matthews), of scipy (Pearson, Spearman) and of seqeval (entities), and the
tests hold them against these libraries. Their functions give one number for all rows. A comparison needs to know what
each row adds to it, see `row_scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from itrd_nlp.tasks.classification.analysis import judged_labels
from itrd_nlp.tasks.classification.data import Kind, kind_of
from itrd_nlp.tasks.classification.entities import OUTSIDE, are_tags, entities
from itrd_nlp.tasks.classification.label_sums import (
    LabelSums,
    Marks,
    macro_f1,
    matthews,
    micro_f1,
)
from itrd_nlp.tasks.lines import Row
from itrd_nlp.tasks.sums import Numbers, Sums, numbers_of, pearson, ranks, ratio, spearman_by_row

KNOWN: dict[Kind, tuple[str, ...]] = {
    "label": (
        "accuracy",
        "f1",
        "matthews",
        "positive_f1",
        "accuracy_matched",
        "accuracy_mismatched",
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


def of_half(metric: str, row: Row) -> bool:
    """Whether an accuracy counts a row: ``accuracy_matched`` and ``accuracy_mismatched`` have a split of MNLI each."""
    return str(row.get("split", "")).endswith(metric.removeprefix("accuracy"))


def score(
    metric: str, rows: Sequence[Row], answers: Mapping[str, Any], positive: str | None = None
) -> float:
    """A metric of answers in percent. It is 0 where it is not defined, as of one label alone.

    Args:
        metric: one of `possible_metrics`.
        rows: as `read_rows` returns them.
        answers: number of a row to its answer. A row without one is wrong; of a correlation see `numbers_of`.
        positive: the label that ``positive_f1`` counts.
    """
    return 100 * _sums(metric, rows, answers, positive).whole


def row_scores(
    metric: str, rows: Sequence[Row], answers: Mapping[str, Any], positive: str | None = None
) -> Numbers:
    """A number for each row, whose mean over the rows is the metric, for the intervals of a comparison.

    It is the metric plus the influence of the row, see `itrd_nlp.tasks.sums.influences`. Of a metric that is a mean
    over the rows this is the score of the row.

    Returns:
        ``(rows,)``; 1 stands for 100 percent.
    """
    if metric == "spearman":
        return spearman_by_row(*_numbers(rows, answers))
    return _sums(metric, rows, answers, positive).by_row()


def _sums(
    metric: str, rows: Sequence[Row], answers: Mapping[str, Any], positive: str | None
) -> Sums | LabelSums:
    kind = kind_of(rows)
    if kind == "value":
        true, found = _numbers(rows, answers)
        return pearson(ranks(true), ranks(found)) if metric == "spearman" else pearson(true, found)
    if kind == "labels":
        return _of_several(metric, rows, answers)
    if metric in ENTITIES:
        return _entities(metric, rows, answers)
    pairs = [judged_labels(row, answers.get(str(i))) for i, row in enumerate(rows)]
    if metric.startswith("accuracy"):
        counted = [of_half(metric, row) for row in rows]
        counts = [
            (yes * sum(a == b for a, b in row), yes * len(row))
            for row, yes in zip(pairs, counted, strict=True)
        ]
        return Sums(np.array(counts, dtype=float), lambda s: ratio(s[..., 0], s[..., 1]))
    names = sorted({name for row in pairs for pair in row for name in pair if name})
    marks = [
        Marks([a for a, b in row if a == b], [b for _, b in row], [a for a, _ in row])
        for row in pairs
    ]
    if metric == "positive_f1":
        return macro_f1(marks, [str(positive)])
    if metric == "f1" and kind == "tokens" and OUTSIDE in names:
        return micro_f1(marks, [name for name in names if name != OUTSIDE])
    return macro_f1(marks, names) if metric == "f1" else matthews(marks, names)


def _of_several(metric: str, rows: Sequence[Row], answers: Mapping[str, Any]) -> Sums | LabelSums:
    """Metrics of labels that may hold together. Accuracy is the share of rows with all labels right."""
    true = [set(row["labels"]) for row in rows]
    found = [set(answers.get(str(i)) or []) for i in range(len(rows))]
    if metric == "accuracy":
        given = [answers.get(str(i)) is not None for i in range(len(rows))]
        right = [g and t == f for g, t, f in zip(given, true, found, strict=True)]
        return Sums(
            np.array([(r, 1) for r in right], dtype=float), lambda s: ratio(s[..., 0], s[..., 1])
        )
    names = sorted(set().union(*true, *found))
    marks = [Marks(t & f, f, t) for t, f in zip(true, found, strict=True)]
    return micro_f1(marks, names) if metric == "micro_f1" else macro_f1(marks, names)


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
        lambda s: ratio(s[..., 0], of_found * s[..., 1] + of_true * s[..., 2]),
    )


def _numbers(rows: Sequence[Row], answers: Mapping[str, Any]) -> tuple[Numbers, Numbers]:
    """The true numbers and those found."""
    true = np.array([row["label"] for row in rows], dtype=float)
    return true, numbers_of(answers, len(rows))
