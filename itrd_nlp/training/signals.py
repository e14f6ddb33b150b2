"""`StopOnSignal`: a job that is told to stop saves a checkpoint and leaves."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from itrd_nlp.errors import TrainingInterrupted
from itrd_nlp.training.arguments import output_folder

SIGNALS = (signal.SIGTERM, signal.SIGINT)
TOGETHER_SECONDS = 1.0
"""SIGTERM twice within this time is one: a cluster may send it to all processes, and a launcher pass it on."""


class StopOnSignal(TrainerCallback):
    """On SIGTERM or SIGINT, save a checkpoint after the step that runs and raise `TrainingInterrupted`.

    A second signal ends the process at once, but for the same SIGTERM once more, see `TOGETHER_SECONDS`. Several
    processes agree in every tenth step, so all of them save the same checkpoint.
    """

    agree_every = 10

    def __init__(self) -> None:
        self.received = 0
        self.first: tuple[int, float] | None = None  # the first signal, and when it came
        self.saving = False
        self.handlers: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        self.received, self.first, self.saving = 0, None, False
        self.restore()  # auto_find_batch_size begins twice
        if threading.current_thread() is threading.main_thread():  # no other can set handlers
            self.handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.restore()
        if self.received:  # It is too late for a checkpoint, but the process still obeys.
            os.kill(os.getpid(), self.received)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **__: Any,
    ) -> None:
        if self._agreed(args, state.global_step):
            self.saving = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        if self.saving:
            self.restore()
            raise TrainingInterrupted(
                self.received, str(output_folder(args) / f"checkpoint-{state.global_step}")
            )

    def _agreed(self, args: TrainingArguments, step: int) -> bool:
        if args.world_size > 1:
            if step % self.agree_every:
                return False
            received = torch.tensor(self.received, device=args.device)
            dist.all_reduce(received, op=dist.ReduceOp.MAX)
            self.received = int(received)
        return self.received != 0

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
