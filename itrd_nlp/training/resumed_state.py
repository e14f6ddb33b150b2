"""`ResumedStateTrainer`: a resumed run goes on with the state of its checkpoint and with its own arguments."""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback
from transformers.trainer_callback import ExportableState

from itrd_nlp.training.streaming import StreamingTrainer


class ResumedStateTrainer(StreamingTrainer):
    """`transformers.Trainer` whose resumed run does what an undisturbed one would have done.

    - It is logged, evaluated and saved as often as its own arguments say. transformers would heed those of the
      checkpoint.
    - Callbacks go on from what they had counted, as `EarlyStoppingCallback` does, and keep the arguments that they have
      now. With ``restore_callback_states_from_checkpoint`` they take those of the checkpoint, too.
    - A run that had stopped early makes no more steps, unless its patience is longer now.
    """

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
        self.state.compute_steps(self.args, max_steps)
        if resume_from_checkpoint is not None and self._has_stopped_early():
            return num_train_epochs, 0
        return passes, batches

    def _load_callback_state(self) -> None:
        super()._load_callback_state()
        known, own = self.state.stateful_callbacks, self._exportable_callbacks()
        assert isinstance(known, dict)
        for name, callbacks in own.items():
            found = known.get(name, [])
            states = found if isinstance(found, list) else [found]
            # transformers appends the states of a class with several callbacks at each checkpoint.
            for callback, state in zip(callbacks, states[-len(callbacks) :], strict=False):
                for attribute, value in state.get("attributes", {}).items():
                    setattr(callback, attribute, value)
            # A later checkpoint fails where the state has no entry of a callback.
            now = [callback.state() for callback in callbacks]
            known[name] = now if len(now) > 1 else now[0]

    def _exportable_callbacks(self) -> dict[str, list[ExportableState]]:
        """Return the callbacks that have a state, by the names of their classes."""
        found: dict[str, list[ExportableState]] = {}
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                found.setdefault(type(callback).__name__, []).append(callback)
        return found

    def _has_stopped_early(self) -> bool:
        return any(
            callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in self.callback_handler.callbacks
            if isinstance(callback, EarlyStoppingCallback)
        )
