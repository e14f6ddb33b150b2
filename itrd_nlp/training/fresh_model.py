"""`FreshModelTrainer`: trainings whose model a function makes, and searches for arguments."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import set_seed

from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.resumed_state import ResumedStateTrainer


class FreshModelTrainer(ResumedStateTrainer):
    """`transformers.Trainer` that knows the model of ``model_init`` before the training begins.

    transformers makes it in the middle of `train`, and sets the values of a trial of `hyperparameter_search` after
    that. Here the values are set and checked first, and then the model is made, because a value may shape it. Each
    trial has a folder of its own below ``output_dir``.
    """

    _fresh: nn.Module | None = None

    def prepare(self, trial: Any = None) -> None:
        """Make what the training needs and what may be refused, before anything is written: the model of a function.

        Args:
            trial: the trial of a search. Default: none.

        Raises:
            UserError: the trial has a value that is not allowed.
        """
        if self.model_init is None:
            return
        if trial is not None:
            self._hp_search_setup(trial)
            if isinstance(self.args, FineTuningArguments):
                self.args.check()
        set_seed(self.args.seed)
        self._fresh = None
        self.model = self._fresh = self.call_model_init(trial)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """Return the model that `prepare` made, once, or a new one."""
        model, self._fresh = self._fresh, None
        return super().call_model_init(trial) if model is None else model
