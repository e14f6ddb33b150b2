"""`StreamingTrainer`: data sets whose rows are read one after the other and have no length."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch
from transformers import Trainer

from itrd_nlp.errors import UserError


class StreamingTrainer(Trainer):
    """`transformers.Trainer` that passes over a stream as often as ``max_steps`` asks for, and resumes in its middle.

    The end of a pass may cut off the last step before it has all its micro-batches. That step is left out, because
    transformers would add its gradients to the next one. A resumed run goes on in the pass and at the row of its
    checkpoint. transformers takes the whole training for one pass.

    Several processes read the stream each for itself, and each takes its own rows. accelerate would read it in one
    process and send batches on, which fails as soon as two of them are padded to different lengths. The arguments
    refuse ``accelerator_config: {dispatch_batches: true}``, which asks for that.
    """

    _ended: Iterator[Any] | None = None

    @property
    def streams(self) -> bool:
        """Whether the training data has no length."""
        return not isinstance(self.train_dataset, Sized)

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        reading = self.accelerator.dataloader_config
        if reading.dispatch_batches is None:
            reading.dispatch_batches = False

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Fetch the micro-batches of an optimizer step. There are none after the last whole step of a pass.

        Raises:
            UserError: a pass has not enough rows for one step.
        """
        if not self.streams:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        if epoch_iterator is self._ended:
            return [], None
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        fetched = torch.tensor([len(batches)], device=device)
        if int(self.accelerator.gather(fetched).min()) == num_batches:
            return batches, items
        self._ended = epoch_iterator
        if self.state.global_step == 0:
            raise UserError(
                f"train_dataset ends after {len(batches)} batches, but a step takes gradient_accumulation_steps = "
                f"{num_batches} of them; give more rows, or a smaller batch."
            )
        return [], None

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        passes, batches = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if self.state.global_step >= max_steps:
            # transformers looks at max_steps after a step, and would make one more than there are.
            return num_train_epochs, 0
        if resume_from_checkpoint is None or not self.streams:
            return passes, batches
        # The state counts max_steps of gradient_accumulation_steps as one pass, and a new pass as one more.
        passes = int(self.state.epoch)
        batches = round(
            (self.state.epoch - passes) * max_steps * self.args.gradient_accumulation_steps
        )
        return passes, 0 if self.args.ignore_data_skip else batches
