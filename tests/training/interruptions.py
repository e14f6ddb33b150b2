"""Trainings that end before a step: by a kill, which saves nothing, or by a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class Killed(Exception):
    """Ends a training as a kill does."""


class Before(TrainerCallback):
    """Does something before a step."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            self.act()


def kill(step: int) -> Before:
    def die() -> None:
        raise Killed

    return Before(step, die)


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def terminate(step: int) -> Before:
    return Before(step, send_sigterm)
