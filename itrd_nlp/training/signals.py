"""`StopOnSignal`: a job that is told to stop saves a checkpoint and leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from itrd_nlp.errors import RESUME, TrainingInterrupted
from itrd_nlp.training.arguments import FineTuningArguments, output_folder

SIGNALS = (signal.SIGTERM, signal.SIGINT)
TOGETHER_SECONDS = 1.0
"""SIGTERM twice within this time is one: a cluster may send it to all processes, and a launcher pass it on."""


class StopOnSignal(TrainerCallback):
    """On SIGTERM or SIGINT, save a checkpoint after the step that runs and raise `TrainingInterrupted`.

    A second signal ends the process at once, but for the same SIGTERM once more, see `TOGETHER_SECONDS`. Several
    processes agree in every tenth step, in the last step and after the training, so all of them save the same
    checkpoint. A signal that comes after the last step, such as in its evaluation, stops the run when the training is
    over; see `StoppingTrainer`.
    """

    agree_every = 10

    def __init__(self) -> None:
        self.received = 0
        self.first: tuple[int, float] | None = None  # the first signal, and when it came
        self.saving = False  # the next checkpoint is the last one
        self.saved_step = 0
        self.handlers: dict[signal.Signals, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any
    ) -> None:
        self.received, self.first = 0, None
        self.saving = False
        self.saved_step = state.global_step  # of the checkpoint from which the training resumes
        self.restore()  # auto_find_batch_size begins twice
        if threading.current_thread() is threading.main_thread():  # no other can set handlers
            self.handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def obey(self, args: TrainingArguments, state: TrainerState, save: Callable[[], None]) -> None:
        """Leave if a signal came to any process before the training was over. A later one ends its process at once.

        All processes call this together, after the last step and what follows it.

        Args:
            args: of the training.
            state: of the training.
            save: saves a checkpoint.

        Raises:
            TrainingInterrupted: a signal came, and a checkpoint of the last step is there.
        """
        if self._agreed(args):
            self.saving = True
            # No run could go on from the model alone, which save_only_model has saved.
            if self.saved_step != state.global_step or args.save_only_model:
                save()
            self.leave(args, state)
        self.restore()
        if self.received:  # it came in between
            os.kill(os.getpid(), self.received)

    def obey_unsaved(
        self, args: TrainingArguments, state: TrainerState, save: Callable[[], None]
    ) -> None:
        """Leave if the step that asked for a checkpoint got none: ``save_strategy: best`` saves better steps alone.

        All processes call this together, where a step saves its checkpoint. See `obey` for the arguments.
        """
        if self.saving:
            save()
            self.leave(args, state)

    @contextlib.contextmanager
    def whole_checkpoint(self, args: TrainingArguments) -> Iterator[None]:
        """Let the last checkpoint before the run stops hold all that it goes on from, also with ``save_only_model``."""
        model_alone = args.save_only_model
        args.save_only_model = model_alone and not self.saving
        try:
            yield
        finally:
            args.save_only_model = model_alone

    def leave(self, args: TrainingArguments, state: TrainerState) -> NoReturn:
        """Raise `TrainingInterrupted`. The checkpoint of the newest step is there."""
        self.restore()
        folder = output_folder(args) / f"checkpoint-{state.global_step}"
        overwrites = isinstance(args, FineTuningArguments) and args.overwrite_output_dir
        resume = f"--overwrite_output_dir false {RESUME}" if overwrites else RESUME
        raise TrainingInterrupted(self.received, str(folder), resume)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **__: Any,
    ) -> None:
        step = state.global_step
        agree = args.world_size == 1 or step % self.agree_every == 0 or step >= state.max_steps
        if agree and self._agreed(args):
            self.saving = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        self.saved_step = state.global_step
        if self.saving:
            self.leave(args, state)

    def _agreed(self, args: TrainingArguments) -> bool:
        agreed = self.received
        if args.world_size > 1:
            exchanged = torch.tensor(agreed, device=args.device)
            dist.all_reduce(exchanged, op=dist.ReduceOp.MAX)
            agreed = int(exchanged)
        if agreed:  # else a signal that came during the exchange waits for the next one
            self.received = agreed
        return agreed != 0

    def _receive(self, signum: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.received, self.first = signum, (signum, now)
        elif (
            not signum == self.first[0] == signal.SIGTERM or now - self.first[1] > TOGETHER_SECONDS
        ):
            self.restore()
            os.kill(os.getpid(), signum)

    def restore(self) -> None:
        """Give the handlers back that were there before the training."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}
