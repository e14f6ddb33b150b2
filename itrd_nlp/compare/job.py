"""The part of a job that runs on the cluster. No import here loads a library, because the job itself only waits."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

STARTED = "--- started"
"""Begins the line in the log of a training that counts its starts."""


class Job:
    """The command of a training on a node. Its output goes to the end of its log.

    Args:
        words: the command.
        log: the file for its output.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.words, self.log = list(words), log
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command; return its exit code."""
        asked = False

        def ask(_: int, __: FrameType | None) -> None:
            # Once: a training that gets a second signal leaves without a checkpoint. SLURM itself sends SIGTERM to
            # all processes of a job, so this one passes on nothing but the interruption by submitit on one machine.
            nonlocal asked
            if not asked:
                asked = True
                process.terminate()

        with self.log.open("ab") as log:
            log.write(f"{STARTED} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
            log.flush()
            process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._process = process
            signal.signal(signal.SIGINT, ask)
            return process.wait()

    def checkpoint(self) -> Any:
        """Called by submitit before the time is over: let the training save, and queue it once more."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return DelayedSubmission(type(self)(self.words, self.log))
