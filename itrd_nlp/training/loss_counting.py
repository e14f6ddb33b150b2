"""`LossCountingTrainer`: micro-batches and processes have their share of a step by what their losses are means over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.training.resuming import ResumingTrainer


class CountedLoss(ABC):
    """A ``compute_loss_func`` of `LossCountingTrainer`, whose micro-batches and processes share steps by items."""

    @abstractmethod
    def __call__(
        self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Return the loss of a micro-batch, a scalar: the mean, or its share of an optimizer step of so many items.

        Args:
            outputs: outputs of the model.
            labels: the entry ``labels`` of the micro-batch.
            num_items_in_batch: the items of the whole step. Default: None, the mean.
        """

    @abstractmethod
    def items(self, labels: Tensor) -> Tensor:
        """Return what the mean of a micro-batch is over, a number on the device of the labels.

        Args:
            labels: the entry ``labels`` of the micro-batch.
        """


class LossCountingTrainer(ResumingTrainer):
    """Weighs the model's own loss by its labels, and a `CountedLoss` by its items.

    Heads of transformers take the number of labels of a step and pass over it, so that transformers would multiply
    their loss by the micro-batches and processes of a step.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # transformers counts the labels of a step for models that take the number, and `compute_loss` for all models.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """See `transformers.Trainer.compute_loss`. The model's own loss is its mean times the share of its labels."""
        if num_items_in_batch is None or self.compute_loss_func is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        count = inputs["labels"].ne(IGNORED).sum()
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        processes = self.args.world_size if self.args.average_tokens_across_devices else 1
        # The mean over no label is no number. Such a micro-batch has no share, and a step of them has no loss.
        # Python's max would wait for a GPU to read the number.
        share = processes * count / torch.as_tensor(num_items_in_batch).clamp(min=1)
        loss = torch.where(count > 0, loss * share, 0.0)
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        loss = self.compute_loss_func
        if not batch_samples or not isinstance(loss, CountedLoss):
            base: Any = super()
            return base._get_num_items_in_batch(batch_samples, device)
        counts = torch.stack([loss.items(batch["labels"]) for batch in batch_samples]).to(device)
        total = counts.sum()
        if self.args.average_tokens_across_devices:
            total = self.accelerator.gather(total).sum()
        return total.clamp(min=1)  # a step without labels has no loss
