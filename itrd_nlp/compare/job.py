"""The part of a job that runs on the cluster. No import here loads a library, because the job itself only waits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from itrd_nlp.training.children import wait_for

STARTED = "--- started"
"""Begins the line in the log of a training that counts its starts."""


RENEWAL_SECONDS = 600.0
"""A job that SLURM has asked to end stays this long after its training, until SLURM ends it or queues it again.

After a preemption SLURM queues a job again if it is still there at the end of the time of grace.
"""
_POLL_SECONDS = 0.1


class Job:
    """The command of a training on a node. Its output goes to the end of its log.

    Args:
        words: the command.
        log: the file for its output.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.words, self.log = list(words), log
        self._process: subprocess.Popen[bytes] | None = None
        self._received: int | None = None
        self._told = False

    def __call__(self) -> int:
        """Run the command; return its exit code.

        SIGTERM is that of SLURM, by `scancel` or a preemption, and SIGINT that of submitit on one machine. Both let the
        training save and leave. Where SLURM follows its processes by cgroups, this process alone gets the signal.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)
        with self.log.open("ab") as log:
            log.write(f"{STARTED} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self._received is not None:  # before there was a process
            self._tell()
        code = wait_for(self._process)
        if self._received == signal.SIGTERM and code != 0:
            time.sleep(RENEWAL_SECONDS)
        return code

    def checkpoint(self) -> Any:
        """Called by submitit before the time is over: let the training save, and queue it once more."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._tell()
            _wait_in_handler(self._process)
        return DelayedSubmission(type(self)(self.words, self.log))

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received = number
        self._tell()

    def _tell(self) -> None:
        """Ask the training to save and leave. Once: one that gets a second signal leaves without a checkpoint."""
        if self._process is not None and not self._told:
            self._told = True
            self._process.terminate()


def _wait_in_handler(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process inside of a handler of signals.

    The handler may have interrupted `Popen.poll` while it holds a lock, and a second `Popen.poll` would then know
    nothing. So the process is looked at from outside, and left for the first one to take.
    """
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while process.returncode is None:
        try:
            if os.waitid(os.P_PID, process.pid, flags) is not None:
                return
        except ChildProcessError:  # the wait that was interrupted has taken it
            return
        time.sleep(_POLL_SECONDS)
