"""What ends a run early, each with the exit code of the scripts."""

from __future__ import annotations

import signal


class UserError(ValueError):
    """Bad input: a file, a field or an argument that makes no sense, or a disk that takes no more.

    The message is one sentence for the person who gave the input. It names the file or argument, the value and what
    is allowed. The scripts print it on stderr and exit with code 2, without a traceback.
    """


class TrainingDiverged(RuntimeError):
    """A loss term became NaN or infinite. The message names the term, its layer pair and the step. Exit code 1."""


class TrainingInterrupted(Exception):
    """A signal asked the training to stop, and a checkpoint was saved. Exit code 128 + number of the signal.

    Args:
        signum: the signal.
        checkpoint: folder of the checkpoint.
    """

    def __init__(self, signum: int, checkpoint: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {checkpoint} is saved.")
        self.signum = signum
        self.checkpoint = checkpoint
