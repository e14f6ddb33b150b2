"""The task loss and the logit KD of queries with their passages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from itrd_nlp.distillation.task_losses import ItemCounts
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.losses.ranking import (
    as_lists,
    list_kd_loss,
    list_label_loss,
    margin_mse_loss,
    pair_label_loss,
)


@dataclass(frozen=True)
class RankingLosses(ItemCounts):
    """See `itrd_nlp.distillation.task_losses.TaskLosses`.

    The labels of a training batch are ``(Q, P)`` with `IGNORED` where a query has fewer passages. Those of an
    evaluation are ``(N,)``, of pairs that need not belong together, and their loss is the pointwise one.

    Attributes:
        label_loss: see `itrd_nlp.tasks.reranking.arguments.RankingArguments`.
        kd_loss: see there.
        teacher_scores: see there.
    """

    label_loss: str = "listwise"
    kd_loss: str = "listwise"
    teacher_scores: str = "model"

    def task(self, logits: dict[str, Tensor], labels: Tensor) -> Tensor:
        """See `TaskLosses.task`."""
        scores = logits["logits"].squeeze(-1)
        if labels.dim() == 1:
            return pair_label_loss(scores, labels.clamp(max=1))
        mask = labels.ne(IGNORED)
        if self.label_loss == "pointwise":
            return pair_label_loss(scores, labels[mask])
        return list_label_loss(as_lists(scores.float(), mask), labels, mask)

    def kd(
        self,
        student: dict[str, Tensor],
        teacher: dict[str, Tensor],
        inputs: dict[str, Any],
        *,
        temperature: float,
    ) -> Tensor:
        """See `TaskLosses.kd`. Margins have no temperature."""
        mask = inputs["labels"].ne(IGNORED)
        ours = as_lists(student["logits"].squeeze(-1).float(), mask)
        if self.teacher_scores == "file":
            theirs = inputs["scores"].float()
        else:
            theirs = as_lists(teacher["logits"].detach().squeeze(-1).float(), mask)
        if self.kd_loss == "margin_mse":
            return margin_mse_loss(ours, theirs, mask)
        return list_kd_loss(ours, theirs, mask, temperature=temperature)

    def task_count(self, labels: Tensor) -> Tensor:
        """See `ItemCounts.task_count`: entries, or lists with a relevant entry."""
        mask = labels.ne(IGNORED)
        if labels.dim() == 1 or self.label_loss == "pointwise":
            return mask.sum()
        return (mask & (labels > 0)).any(dim=-1).sum()

    def kd_count(self, inputs: dict[str, Any]) -> Tensor:
        """See `ItemCounts.kd_count`: lists, or pairs of entries of one list."""
        labels: Tensor = inputs["labels"]
        entries = labels.ne(IGNORED).sum(-1)
        if self.kd_loss == "margin_mse":
            return (entries * (entries - 1) // 2).sum()
        return entries.new_full((), len(entries))
