"""One module for student and objective, so that a wrapper such as DDP sees all trainable parameters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from itrd_nlp.distillation.logit_kd import problem_type_of
from itrd_nlp.distillation.objective import BatchShare, ITRDObjective
from itrd_nlp.distillation.task_losses import TaskLosses, TaskLossFunction
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED, EncoderOutput
from itrd_nlp.models.adaptor import Adaptor
from itrd_nlp.models.encode import encode, own_inputs, token_mask


class DistillationModel(nn.Module):
    """A student and its objective.

    The teacher is not part of this module, because it must not be trained, wrapped or saved. The batch brings the
    teacher's output.

    Trainers and callbacks of transformers ask a model for its ``config``, ``device``, ``num_parameters``,
    ``get_input_embeddings``, ``save_pretrained`` and more. The student answers each question that this module does not
    answer itself, as in PEFT. Parameters, state and mode are those of student and objective together.

    Args:
        student: the model to train.
        objective: the loss terms and their projections.
        adaptor: the user's function that reads the student, see `itrd_nlp.models.adaptor`. Default: None, the student
            is read as a model of transformers.
        losses: the task loss and the KD of a task that has its own. Default: None, the student's head has a loss.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        objective: ITRDObjective,
        adaptor: Adaptor | None = None,
        losses: TaskLosses | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.adaptor = adaptor
        self.losses = losses

    @property
    def config(self) -> Any:
        """The student's configuration. A tracker that sets another one sets the student's."""
        return self.student.config

    @config.setter
    def config(self, value: Any) -> None:
        self.student.config = value

    def __getattr__(self, name: str) -> Any:
        """Look up a name that this module does not have in the student."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "student":  # it is not there yet, or not any more
                raise
            return getattr(self.student, name)

    def forward(
        self,
        *,
        teacher_output: EncoderOutput | None = None,
        share: BatchShare | None = None,
        **inputs: Any,
    ) -> ModelOutput | dict[str, Tensor]:
        """Return the loss terms in training, and the student's own output in evaluation.

        Args:
            teacher_output: the teacher's output on the same inputs. Default: None, if no term needs a teacher.
            share: the share of this micro-batch in the optimizer step. Default: None, which requests the student's own
                output.
            **inputs: inputs of the student, with the labels.

        Returns:
            The loss terms by name, see `ITRDObjective.forward`, or the student's output.

        Raises:
            UserError: ``share`` is given, but the batch holds no ``attention_mask``, or no labels for the task loss.
        """
        if share is None:
            return self._evaluated(inputs)
        args, losses = self.objective.args, self.losses
        batch, labels = inputs, inputs.get("labels")
        if losses is not None:
            inputs = {name: value for name, value in inputs.items() if name != "labels"}
        positions: dict[str, Tensor] = {
            name: inputs.pop(name)
            for name in ("start_positions", "end_positions")
            if name in inputs
        }
        layers = [pair.student for pair in self.objective.pairs]
        output, student = encode(
            self.student, inputs, layers, attention=args.needs_attention, adaptor=self.adaptor
        )
        mask = student.mask
        if mask is None and self.adaptor is None:
            mask = token_mask(self.student, inputs)
        task_loss = self._task_loss(output, student.logits, labels, positions, mask)
        if task_loss is None and args.w_task > 0:
            raise self._no_task_loss(inputs)
        problem_type = problem_type_of(self.student.config, labels, student.logits)
        logit_loss = (
            None
            if losses is None
            else partial(losses.kd, inputs=batch, temperature=args.temperature)
        )
        del output  # it holds the hidden states, too
        terms: dict[str, Tensor] = self.objective(
            replace(student, release=True),
            teacher_output,
            task_loss,
            mask,
            share,
            problem_type,
            logit_loss,
        )
        return terms

    def _task_loss(
        self,
        output: ModelOutput,
        logits: dict[str, Tensor],
        labels: Tensor | None,
        positions: dict[str, Tensor],
        mask: Tensor | None,
    ) -> Tensor | None:
        """Return the task loss: the task's own, that of a span without padding, or that of the student's head."""
        if self.objective.args.w_task == 0:
            return None
        if self.losses is not None:
            return None if labels is None else self.losses.task(logits, labels)
        if len(positions) == 2:  # one of them alone is a misnamed column
            return self._span_loss(logits, positions, mask)
        loss: Tensor | None = output.get("loss")
        return loss

    def _span_loss(
        self, logits: dict[str, Tensor], positions: dict[str, Tensor], mask: Tensor | None
    ) -> Tensor:
        """Return the task loss of a span head."""
        if mask is None or "start_logits" not in logits:
            raise UserError(
                f"The batch has start_positions, but {type(self.student).__name__} predicts no place in a text."
            )
        return span_task_loss(logits["start_logits"], logits["end_logits"], **positions, mask=mask)

    def _no_task_loss(self, inputs: dict[str, Any]) -> UserError:
        """Return the sentence for a batch without a task loss."""
        sentence = f"w_task is {self.objective.args.w_task}, but"
        if "labels" in inputs:
            who = type(self.student).__name__
            return UserError(f"{sentence} {who} computes no loss from labels; set w_task to 0.")
        return UserError(
            f"{sentence} the batch holds {', '.join(sorted(inputs))} and no labels; rename the column of the labels to "
            "labels, or set w_task to 0."
        )

    def _evaluated(self, inputs: dict[str, Any]) -> ModelOutput:
        """Return the student's own output."""
        if self.adaptor is not None:
            return encode(self.student, inputs, [], adaptor=self.adaptor)[0]
        labels = None if self.losses is None else inputs.pop("labels", None)
        evaluated: ModelOutput = self.student(**own_inputs(self.student, inputs))
        if self.losses is not None and labels is not None:
            loss = TaskLossFunction(self.losses)(evaluated, labels)
            return ModelOutput(loss=loss, **evaluated)
        return evaluated


def span_task_loss(
    start: Tensor, end: Tensor, start_positions: Tensor, end_positions: Tensor, mask: Tensor
) -> Tensor:
    """Average the cross entropies of an answer's start and end. The softmax leaves out padding.

    The heads of transformers include padding in the softmax, so their loss depends on the padded length of the batch.
    Rows with the position `IGNORED` have no label and do not count. A batch without labels has the loss 0.

    Args:
        start: logits of the start, ``(B, L)``.
        end: logits of the end, ``(B, L)``.
        start_positions: token index of each start, ``(B,)``.
        end_positions: token index of each end, ``(B,)``.
        mask: ``(B, L)``, bool or 0/1, true where a token is no padding.

    Returns:
        A scalar in float32.
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
