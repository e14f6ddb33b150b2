"""Outputs of a model as answers, and their scores: what a trainer calls to evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import EvalPrediction

from itrd_nlp.tasks.answers import check_numbers
from itrd_nlp.tasks.classification.data import Kind
from itrd_nlp.tasks.classification.measures import score
from itrd_nlp.tasks.classification.metrics import NO_CLASS, best_class
from itrd_nlp.tasks.lines import Row
from itrd_nlp.tasks.network import first_output
from itrd_nlp.tasks.task import Answers

DIGITS = 7
"""Significant digits of a number that a regression answers. float32 holds no more, whatever the unit of the labels."""
_UNKNOWN = 2
"""Whether a label holds where its logit is NaN."""


class RowsJudge:
    """``compute_metrics`` of a trainer: the answers of a model, and their scores in percent.

    Args:
        rows: as `read_rows` returns them.
        answer: from the outputs of a model, after `outputs_of`, to its answers.
        metrics: those of `itrd_nlp.tasks.classification.measures` that are asked for.
        positive: the label that ``positive_f1`` counts.

    Attributes:
        predictions: number of a row, from 0 on, to its answer: a label, a sorted list of labels, a number, or a list
            with a label for each judged token, None of one that the model has not read.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        answer: Callable[[NDArray[Any]], Answers],
        metrics: Sequence[str],
        positive: str | None,
    ) -> None:
        self.rows, self.answer, self.metrics, self.positive = rows, answer, metrics, positive
        self.predictions: Answers = {}

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        self.predictions = self.answer(np.asarray(outputs.predictions))
        return scores_of(self.predictions, self.rows, self.metrics, self.positive)


def scores_of(
    answers: Mapping[str, Any], rows: Sequence[Row], metrics: Sequence[str], positive: str | None
) -> dict[str, float]:
    """Every metric of answers in percent."""
    return {metric: score(metric, rows, answers, positive) for metric in metrics}


def named_answers(
    found: NDArray[Any], names: Sequence[str], judged: Sequence[Sequence[int | None]] | None
) -> Answers:
    """Ids of labels as answers, see `RowsJudge`.

    Args:
        found: of each row the id of its label, or the ids of all its tokens; `NO_CLASS` where the logits have NaN.
        names: the labels in the order of their ids.
        judged: of each row of tokens the position of each judged token, None of one that the model does not read; None
            of texts.

    Raises:
        UserError: the model gives logits with NaN where a label is judged.
    """
    if judged is None:
        check_numbers(int((found == NO_CLASS).sum()), len(found), "texts", "logits")
        return {str(i): names[int(one)] for i, one in enumerate(found)}
    read = [
        row[[at for at in places if at is not None]]
        for row, places in zip(found, judged, strict=True)
    ]
    bad = sum(int((row == NO_CLASS).sum()) for row in read)
    check_numbers(bad, sum(map(len, read)), "judged tokens", "logits")
    return {
        str(i): [None if at is None else names[int(row[at])] for at in positions]
        for i, (row, positions) in enumerate(zip(found, judged, strict=True))
    }


def several_answers(found: NDArray[Any], names: Sequence[str]) -> Answers:
    """The labels that a model says hold together, as answers: a sorted list a row.

    Raises:
        UserError: the model gives logits with NaN.
    """
    check_numbers(int((found == _UNKNOWN).any(axis=-1).sum()), len(found), "texts", "logits")
    return {
        str(i): sorted(name for name, holds in zip(names, row, strict=True) if holds)
        for i, row in enumerate(found)
    }


def numbers(found: NDArray[Any]) -> Answers:
    """The numbers of a regression as answers, each with its first `DIGITS` digits.

    Raises:
        UserError: one is NaN.
    """
    check_numbers(int(np.isnan(found).sum()), len(found), "texts", "logits")
    return {str(i): float(f"{float(one):.{DIGITS}g}") for i, one in enumerate(found)}


def outputs_of(kind: Kind) -> Callable[[Any, Tensor], Tensor]:
    """``preprocess_logits_for_metrics`` of a trainer, which keeps what the answers need of the logits.

    Args:
        kind: of the rows. One label is the class of the highest logit. Labels hold together where their probability
            ``sigmoid(logit)`` is at least 1/2. A number is the only logit.
    """
    return {"labels": _holding, "value": _value}.get(kind, best_class)


def _holding(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    first = first_output(logits)
    return (first >= 0).to(torch.uint8).masked_fill(first.isnan(), _UNKNOWN)


def _value(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    return first_output(logits).float().squeeze(-1)
