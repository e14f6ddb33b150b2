"""The task loss and the logit KD of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from itrd_nlp.losses.embeddings import (
    cosine_label_loss,
    cosine_loss,
    in_batch_loss,
    similarity_kd_loss,
    vector_mse_loss,
)


@dataclass(frozen=True)
class EmbeddingLosses:
    """See `itrd_nlp.distillation.task_losses.TaskLosses`. The ``logits`` of an embedder are its vectors.

    Attributes:
        kind: of the training data, see `itrd_nlp.tasks.embedding.data.Kind`.
        kd_loss: see `itrd_nlp.tasks.embedding.arguments.EmbeddingArguments`.
    """

    kind: str = "texts"
    kd_loss: str = "cosine"

    def task(self, logits: dict[str, Tensor], labels: Tensor) -> Tensor:
        """See `TaskLosses.task`. A training batch has two texts a label, one after the other.

        The texts of an evaluation stand alone, so they have no loss: it is 0.
        """
        vectors = logits["logits"].float()
        if len(vectors) == len(labels):
            return vectors.new_zeros(())
        first, second = vectors[0::2], vectors[1::2]
        if self.kind == "queries":
            return in_batch_loss(first, second, labels)
        return cosine_label_loss(first, second, labels)

    def kd(
        self,
        student: dict[str, Tensor],
        teacher: dict[str, Tensor],
        inputs: dict[str, Any],
        *,
        temperature: float,
    ) -> Tensor:
        """See `TaskLosses.kd`. Only ``similarities`` have a temperature."""
        ours, theirs = student["logits"].float(), teacher["logits"].detach().float()
        if self.kd_loss == "similarities":
            return similarity_kd_loss(ours, theirs, temperature=temperature)
        return (cosine_loss if self.kd_loss == "cosine" else vector_mse_loss)(ours, theirs)
