"""`ItemCountingTrainer`: weighs the loss of each micro-batch by the number of items that it averages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from transformers.trainer_pt_utils import nested_gather

from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.training.resuming import ResumingTrainer

_SPANS = "start_positions"


class CountedLoss(ABC):
    """A ``compute_loss_func`` of `ItemCountingTrainer`, whose micro-batches and processes share steps by items."""

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
        """Return the number of items that the loss averages, on the device of the labels.

        Args:
            labels: the entry ``labels`` of the micro-batch.
        """


class ItemCountingTrainer(ResumingTrainer):
    """Weighs the model's own loss by its labels, and a `CountedLoss` by its items.

    Heads of transformers take the number of labels of a step and pass over it, so that transformers would multiply
    their loss by the micro-batches and processes of a step. The parameters, which transformers counts in every
    micro-batch, are counted once.
    """

    _flos: tuple[Any, float] | None = None
    """The model and its floating-point operations for one number of the main input."""

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
        count = _labels(inputs).ne(IGNORED).sum()
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        processes = self.args.world_size if self.args.average_tokens_across_devices else 1
        # The mean over no label is no number. Such a micro-batch has no share, and a step of them has no loss.
        # Python's max would wait for a GPU to read the number.
        share = processes * count / torch.as_tensor(num_items_in_batch).clamp(min=1)
        loss = torch.where(count > 0, loss * share, 0.0)
        return (loss, outputs) if return_outputs else loss

    def prepare(self, trial: Any = None) -> None:
        """See `FreshModelTrainer.prepare`. The model of an earlier trial is not kept alive."""
        self._flos = None
        super().prepare(trial)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """See `transformers.Trainer.floating_point_ops`. A small step on a GPU waits for the count."""
        main = inputs.get(getattr(self.model, "main_input_name", "input_ids"))
        numbers = main.numel() if isinstance(main, Tensor) else 0
        if not numbers:
            return super().floating_point_ops(inputs)
        if self._flos is None or self._flos[0] is not self.model:
            self._flos = (self.model, super().floating_point_ops(inputs) / numbers)
        return round(self._flos[1] * numbers)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        counts = [count for batch in batch_samples if (count := self._items(batch)) is not None]
        if not counts:
            base: Any = super()
            return base._get_num_items_in_batch(batch_samples, device)
        total = torch.stack(counts).to(device).sum()
        if self.args.average_tokens_across_devices:
            total = self.accelerator.gather(total).sum()
        return total.clamp(min=1)  # a step without labels has no loss

    def _items(self, batch: dict[str, Any]) -> Tensor | None:
        """Return the number of items that the loss of a micro-batch averages. It is None where transformers counts."""
        loss = self.compute_loss_func
        if isinstance(loss, CountedLoss):
            return loss.items(batch["labels"])
        if loss is None and "labels" not in batch and _SPANS in batch:
            return _labels(batch).ne(IGNORED).sum()
        return None

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        # transformers adds the losses since the last log to the sum, and each process has its own.
        mean = nested_gather(self._tr_loss, self.args.parallel_mode).mean()
        self._tr_loss.copy_(mean)
        base: Any = super()
        return base._finalize_training(*args, **kwargs)


def _labels(batch: dict[str, Any]) -> Tensor:
    """Return what a head of transformers learns from, a label for each term of its loss."""
    labels: Tensor = batch["labels"] if "labels" in batch else batch[_SPANS]
    return labels
