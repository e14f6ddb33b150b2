"""The task loss and the logit KD of masked tokens, and what a judge keeps of their logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from itrd_nlp.losses.logits import kd_loss
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.masked_lm import at_labels
from itrd_nlp.tasks.network import first_output


@dataclass(frozen=True)
class MaskedLosses:
    """See `itrd_nlp.distillation.task_losses.TaskLosses`. Both are means over the masked tokens.

    Attributes:
        probability: of a mask. No loss reads it: it tells a checkpoint of which masks its run is.
    """

    probability: float = 0.15

    def task(self, logits: dict[str, Tensor], labels: Tensor) -> Tensor:
        """See `TaskLosses.task`: the cross entropy in nats. It is 0 where no token is masked."""
        found, true = at_labels(logits["logits"], labels, IGNORED)
        return F.cross_entropy(found, true, reduction="sum") / max(1, len(true))

    def kd(
        self,
        student: dict[str, Tensor],
        teacher: dict[str, Tensor],
        inputs: dict[str, Any],
        *,
        temperature: float,
    ) -> Tensor:
        """See `TaskLosses.kd`: ``T² KL(teacher || student)`` over the vocabulary."""
        return kd_loss(student["logits"], teacher["logits"], temperature=temperature)


@dataclass(frozen=True)
class NoLosses:
    """The losses of an encoder without a head, which has none. Its hidden states alone learn."""

    def task(self, logits: dict[str, Tensor], labels: Tensor) -> Tensor:
        """See `TaskLosses.task`: 0."""
        return logits["logits"].new_zeros(())

    def kd(
        self,
        student: dict[str, Tensor],
        teacher: dict[str, Tensor],
        inputs: dict[str, Any],
        *,
        temperature: float,
    ) -> Tensor:
        """See `TaskLosses.kd`: 0."""
        return student["logits"].new_zeros(())


def predicted(logits: Any, labels: Tensor) -> Tensor:
    """``preprocess_logits_for_metrics`` of a trainer: the predicted token of each mask, and the loss of the true one.

    Args:
        logits: ``(M, V)`` of the masked tokens, or ``(B, L, V)``.
        labels: ``(B, L)``, `IGNORED` where a token is not masked.

    Returns:
        ``(B, L, 2)`` in float32, which holds every id below 2**24: id and cross entropy in nats, 0 where a token is not
        masked.
    """
    found, true = at_labels(first_output(logits), labels, IGNORED)
    kept = found.new_zeros((*labels.shape, 2), dtype=torch.float32)
    losses = F.cross_entropy(found, true, reduction="none")
    kept[labels.ne(IGNORED)] = torch.stack([found.argmax(-1).float(), losses.float()], dim=-1)
    return kept
