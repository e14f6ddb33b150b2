"""`EpochEndTrainer`: a resumed run does what follows the last step of an epoch, where its checkpoint is older."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput

from itrd_nlp.training.resumed_state import ResumedStateTrainer


class EpochEndTrainer(ResumedStateTrainer):
    """`transformers.Trainer` that makes up for the end of an epoch.

    With ``save_strategy: steps`` the last step of an epoch may save a checkpoint. The log and the evaluation of the
    epoch come after it. transformers resumes from such a checkpoint in the next epoch, and passes over both.
    """

    _ignored: list[str] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(_EpochEnd)

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
        self._epoch_end.grad_norm, self._epoch_end.learning_rate = grad_norm, learning_rate
        base: Any = super()  # this method and the next two have no annotations there
        base._maybe_log_save_evaluate(
            tr_loss, grad_norm, model, trial, *args, learning_rate=learning_rate, **kwargs
        )

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        self._make_up_for_it(kwargs["trial"], kwargs["start_time"])
        if not self.control.should_training_stop:  # the evaluation may have stopped it early
            base: Any = super()
            base._run_epoch(*args, **kwargs)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        self._make_up_for_it(trial, start_time)
        base: Any = super()
        return base._finalize_training(trial, num_train_samples, start_time)

    def _make_up_for_it(self, trial: Any, start_time: float) -> None:
        """Do what an undisturbed run has done after the last step of its epoch, unless it is done."""
        state, end = self.state, self._epoch_end
        if not end.due or (state.epoch % 1 != 0 and state.global_step < state.max_steps):
            return
        self.control = self.callback_handler.on_epoch_end(self.args, state, self.control)
        self._maybe_log_save_evaluate(
            self._tr_loss,
            end.grad_norm,
            self.model_wrapped,
            trial,
            state.epoch,
            self._ignored,
            start_time,
            learning_rate=end.learning_rate,
        )


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
