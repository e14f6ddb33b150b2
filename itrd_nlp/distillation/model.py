"""Student and objective in one module, so that a wrapper such as DDP sees everything that learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from itrd_nlp.distillation.objective import BatchShare, ITRDObjective
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED, EncoderOutput
from itrd_nlp.models.encode import encode


def span_task_loss(
    start: Tensor, end: Tensor, start_positions: Tensor, end_positions: Tensor, mask: Tensor
) -> Tensor:
    """Cross entropy of an answer's start and end, averaged, with padding excluded from the softmax.

    transformers' own heads let padding take part, so their loss depends on how long the batch was padded. Rows whose
    positions are `IGNORED` have no label and do not count; where none has one the loss is 0.

    Args:
        start: ``(B, L)`` start logits; ``end`` likewise.
        start_positions: ``(B,)`` token indices; ``end_positions`` likewise.
        mask: ``(B, L)``, true where a token is no padding.
    """
    padding = ~mask.bool()
    labelled = start_positions.ne(IGNORED).sum().clamp(min=1)
    sums = [
        F.cross_entropy(
            logits.float().masked_fill(padding, float("-inf")), positions, reduction="sum"
        )
        for logits, positions in ((start, start_positions), (end, end_positions))
    ]
    return torch.stack(sums).mean() / labelled


class DistillationModel(nn.Module):
    """A student and its objective.

    The teacher is not part of it: it has nothing to learn and must not be wrapped, saved or optimised. Its output
    comes in with the batch.

    Args:
        student: the model that learns.
        objective: the loss terms and their projections.
    """

    def __init__(self, student: PreTrainedModel, objective: ITRDObjective) -> None:
        super().__init__()
        self.student = student
        self.objective = objective

    @property
    def config(self) -> Any:
        """The student's configuration, which the trainer and its callbacks ask for."""
        return self.student.config

    def forward(
        self,
        *,
        teacher_output: EncoderOutput | None = None,
        share: BatchShare | None = None,
        **inputs: Any,
    ) -> ModelOutput | dict[str, Tensor]:
        """Loss terms in training, the student's own output in evaluation.

        Args:
            teacher_output: the teacher's output on the same inputs.
            share: the part of the optimizer step that this micro-batch is; None asks for the student's own output.
            **inputs: the student's inputs, labels included.
        """
        if share is None:
            return self.student(**inputs)
        mask = inputs.get("attention_mask")
        if mask is None:
            raise UserError(
                "The batch holds no attention_mask, but the losses must know which tokens are padding."
            )
        args = self.objective.args
        positions = [
            inputs.pop(name) for name in ("start_positions", "end_positions") if name in inputs
        ]
        layers = [pair.student for pair in self.objective.pairs]
        output, student = encode(self.student, inputs, layers, attention=args.needs_attention)
        task_loss = None
        if args.w_task > 0:
            if positions:
                start, end = student.logits["start_logits"], student.logits["end_logits"]
                task_loss = span_task_loss(start, end, *positions, mask)
            else:
                task_loss = output.loss
        return self.objective(student, teacher_output, task_loss, mask, share)
