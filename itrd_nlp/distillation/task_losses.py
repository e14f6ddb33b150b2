"""The seam between a task and the two losses that read its logits, where no head of transformers computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.encode import LOGITS
from itrd_nlp.training.item_counting import CountedLoss


class TaskLosses(Protocol):
    """The task loss and the logit KD of a task whose rows belong together, such as the passages of one query.

    The ``repr`` names every option that changes a loss, because a checkpoint keeps it as a part of its identity.
    """

    def task(self, logits: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return the mean task loss of a batch, a scalar.

        Args:
            logits: logits of the student by name.
            labels: the entry ``labels`` of the batch. The model does not see it.
        """

    def kd(
        self,
        student: dict[str, Tensor],
        teacher: dict[str, Tensor],
        inputs: dict[str, Any],
        *,
        temperature: float,
    ) -> Tensor:
        """Return the mean KD loss of a batch, a scalar.

        Args:
            student: logits of the student by name.
            teacher: logits of the teacher by name.
            inputs: the whole batch with its labels.
            temperature: temperature of the KD, above 0.
        """


class ItemCounts(ABC):
    """`TaskLosses` of a task that averages other items than the labels and the rows of a batch.

    Under gradient accumulation, and with several processes, the parts of a step have the weights of these counts.
    """

    @abstractmethod
    def task_count(self, labels: Tensor) -> Tensor:
        """Return the number of items that ``task`` averages, on the device of the labels.

        Args:
            labels: the entry ``labels`` of the batch.
        """

    @abstractmethod
    def kd_count(self, inputs: dict[str, Any]) -> Tensor:
        """Return the number of items that ``kd`` averages, on the device of the batch.

        Args:
            inputs: the whole batch with its labels.
        """


@dataclass(frozen=True)
class TaskLossFunction(CountedLoss):
    """The task loss as ``compute_loss_func`` of a `transformers.Trainer`, for a training without a teacher.

    Attributes:
        losses: the losses of the task.
    """

    losses: TaskLosses

    def __call__(
        self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Return the loss of a micro-batch: the mean, or its share of an optimizer step of so many items."""
        logits = {name: outputs[name] for name in LOGITS if name in outputs}
        loss = self.losses.task(logits, labels)
        if num_items_in_batch is None:
            return loss
        return loss * self.items(labels) / num_items_in_batch

    def items(self, labels: Tensor) -> Tensor:
        """See `CountedLoss.items`."""
        if isinstance(self.losses, ItemCounts):
            return self.losses.task_count(labels)
        return labels.ne(IGNORED).sum()
