"""`StoppingTrainer`: a training that is told to stop saves a checkpoint first."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.trainer_utils import TrainOutput

from itrd_nlp.training.item_counting import ItemCountingTrainer
from itrd_nlp.training.signals import StopOnSignal


class StoppingTrainer(ItemCountingTrainer):
    """`transformers.Trainer` that saves a checkpoint on SIGTERM and SIGINT, and raises `TrainingInterrupted`.

    See `StopOnSignal`. A training that is cut short leaves no handler behind.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop = StopOnSignal()
        self.add_callback(self._stop)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """See `ResumingTrainer.train`."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._stop.restore()

    def _maybe_log_save_evaluate(
        self,
        tr_loss: Tensor,
        grad_norm: Any,
        model: nn.Module,
        trial: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        base: Any = super()  # this method and the next have no annotations there
        base._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *args, **kwargs)
        self._stop.obey_unsaved(self.args, self.state, lambda: self._save_checkpoint(model, trial))

    def _finalize_training(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        # before the best model takes the place of the last one
        model: Any = self.model
        self._stop.obey(self.args, self.state, lambda: self._save_checkpoint(model, trial))
        base: Any = super()
        return base._finalize_training(trial, *args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        with self._stop.whole_checkpoint(self.args):
            super()._save_checkpoint(model, trial)
