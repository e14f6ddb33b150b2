"""Accuracy and F1 of classified texts and tokens, for a trainer whose data are no files of this package."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.classification.measures import score
from itrd_nlp.tasks.network import first_output

NO_CLASS = -1
"""Where a logit is NaN, no class has the highest one."""


class ClassificationMetrics:
    """``compute_metrics`` of a trainer: accuracy and F1 in percent, see `itrd_nlp.tasks.classification.measures`.

    The F1 of texts is the mean over the classes (macro) that occur or that a text is taken for: a class that is in
    neither says nothing about the model. That of tokens is over all tokens that are or are taken for something else
    than ``O`` (micro), so that the many tokens outside say nothing; without a label ``O`` it is macro.

    Args:
        names: the labels in the order of their ids.
        tokens: whether each token has a label.
    """

    def __init__(self, names: list[str], *, tokens: bool) -> None:
        self.names = names
        self.tokens = tokens

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        found, true = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        judged = true != IGNORED
        # NO_CLASS, or a class of a head with more labels than names, is no label.
        said = [self.names[i] if 0 <= i < len(self.names) else "" for i in found[judged].tolist()]
        labels = [self.names[i] for i in true[judged].tolist()]
        rows: list[dict[str, Any]] = [{"text": "", "label": label} for label in labels]
        answers: dict[str, Any] = {str(i): one for i, one in enumerate(said)}
        if self.tokens or not labels:
            rows, answers = [{"tokens": labels, "labels": labels}], {"0": said}
        return {metric: score(metric, rows, answers) for metric in ("accuracy", "f1")}


def best_class(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """``preprocess_logits_for_metrics`` of a trainer: the class of the highest logit, `NO_CLASS` where one is NaN."""
    first = first_output(logits)
    return torch.argmax(first, dim=-1).masked_fill(first.isnan().any(dim=-1), NO_CLASS)
