"""`EpochEndTrainer`: a resumed run does what follows the last step of an epoch, where its checkpoint is older."""

from __future__ import annotations

import math
import time
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput

from itrd_nlp.training.epochs import DrawsByEpoch
from itrd_nlp.training.stopping import StoppingTrainer


class EpochEndTrainer(StoppingTrainer):
    """`transformers.Trainer` that makes up for the end of an epoch when it resumes.

    The last step of an epoch may save a checkpoint: by ``save_strategy: steps``, or because a signal came. The log and
    the evaluation of the epoch come after it. transformers would resume in the next epoch, and pass over both.
    """

    _ignored: list[str] | None = None
    _resumed_from: str | None = None
    _trial: Any = None
    _no_step_follows = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(_EpochEnd)
        self.add_callback(_MakesUp(self))  # behind those that restore sums and catch signals

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """See `ResumingTrainer.train`."""
        self._ignored = ignore_keys_for_eval
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    @property
    def _epoch_end(self) -> _EpochEnd:
        # transformers replaces callbacks by those of a checkpoint, if restore_callback_states_from_checkpoint asks.
        (found,) = (c for c in self.callback_handler.callbacks if isinstance(c, _EpochEnd))
        return found

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        end = self._epoch_end
        end.due, end.grad_norm, end.learning_rate = False, None, None  # of an earlier training
        passes, batches = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        self._resumed_from, self._trial = resume_from_checkpoint, trial
        self._no_step_follows = passes >= num_train_epochs
        return passes, batches

    def _maybe_log_save_evaluate(
        self,
        tr_loss: Tensor,
        grad_norm: Any,
        model: nn.Module,
        trial: Any,
        *args: Any,
        learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        end = self._epoch_end
        if learning_rate is None:  # a stream that has no more rows than the checkpoint had read
            grad_norm, learning_rate = end.grad_norm, end.learning_rate
        end.grad_norm, end.learning_rate = grad_norm, learning_rate
        base: Any = super()  # this method and the next one have no annotations there
        base._maybe_log_save_evaluate(
            tr_loss, grad_norm, model, trial, *args, learning_rate=learning_rate, **kwargs
        )

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The evaluation that was made up for may have stopped the run early.
        if not self.control.should_training_stop:
            base: Any = super()
            base._run_epoch(*args, **kwargs)

    def make_up_for_epoch_end(self) -> TrainerControl:
        """Do what an undisturbed run has done after the last step of its epoch, unless it is done."""
        state = self.state
        if self._epoch_end.due and (self._no_step_follows or state.epoch % 1 == 0):
            self._load_rng_state(self._resumed_from)  # for a checkpoint that is saved here
            if isinstance(self.data_collator, DrawsByEpoch):
                self.data_collator.begin_epoch(self.args.seed, math.ceil(state.epoch) - 1)
            self.control = self.callback_handler.on_epoch_end(self.args, state, self.control)
            self._maybe_log_save_evaluate(
                self._tr_loss,
                None,
                self.model_wrapped,
                self._trial,
                state.epoch,
                self._ignored,
                time.time(),
            )
        return self.control


class _MakesUp(TrainerCallback):
    """Makes up for the end of an epoch before the next epoch begins."""

    def __init__(self, trainer: EpochEndTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> TrainerControl:
        return self.trainer.make_up_for_epoch_end()


class _EpochEnd(TrainerCallback, ExportableState):
    """Knows whether the epoch of the newest step has yet to end, and what the log will then say of the step.

    Attributes:
        due: whether a step was made after the end of the last epoch.
        grad_norm: norm of the gradient of the step.
        learning_rate: learning rate of the step.
    """

    due = False
    grad_norm: float | Tensor | None = None
    learning_rate: float | None = None

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.due = True

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.due = False

    def state(self) -> dict[str, Any]:
        norm = self.grad_norm
        return {
            "args": {},
            "attributes": {
                "due": self.due,
                "grad_norm": norm.item() if isinstance(norm, Tensor) else norm,
                "learning_rate": self.learning_rate,
            },
        }
