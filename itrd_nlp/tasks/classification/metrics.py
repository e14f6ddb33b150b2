"""Accuracy and F1 of classified texts and tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

from itrd_nlp.losses.outputs import IGNORED

OUTSIDE = "O"
NO_CLASS = -1
"""Where a logit is NaN, no class has the highest one."""


class ClassificationMetrics:
    """``compute_metrics`` of a trainer: accuracy and F1 in percent.

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
        found, true = found[judged], true[judged]
        if len(true) == 0:
            return {"accuracy": 0.0, "f1": 0.0}
        accuracy = float(np.mean(found == true))
        classes = range(len(self.names))
        if self.tokens and OUTSIDE in self.names:
            outside = self.names.index(OUTSIDE)
            right = np.sum((found == true) & (true != outside))
            all_named = np.sum(found != outside) + np.sum(true != outside)
            f1 = 2 * right / all_named if all_named else 0.0
        else:
            met = [c for c in classes if np.any(found == c) or np.any(true == c)]
            f1 = np.mean([self._f1(found == c, true == c) for c in met])
        return {"accuracy": 100 * accuracy, "f1": 100 * float(f1)}

    @staticmethod
    def _f1(found: np.ndarray, true: np.ndarray) -> float:
        return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def best_class(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """``preprocess_logits_for_metrics`` of a trainer: the class of the highest logit, `NO_CLASS` where one is NaN."""
    first = logits[0] if isinstance(logits, tuple) else logits
    return torch.argmax(first, dim=-1).masked_fill(first.isnan().any(dim=-1), NO_CLASS)
