"""Commands that a command runs in processes of their own. No import here loads a library."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask to stop."""


def finished(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command and pass signals on to it: the first one asks it to save and leave, the next one ends it.

    Args:
        command: the words of the command.
        environment: its variables. Default: those of this process.

    Returns:
        Its exit code; negative: the number of the signal that ended it.
    """
    with _passing_on() as processes:
        # A session of its own: a Ctrl-C of the terminal reaches this process alone, which passes it on.
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        processes.append(process)
        return process.wait()


@contextmanager
def _passing_on() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Pass the signals that this process does not ignore on to the processes of a list."""
    processes: list[subprocess.Popen[bytes]] = []
    received = 0

    def receive(*_: object) -> None:
        nonlocal received
        received += 1
        for process in processes:
            process.send_signal(signal.SIGTERM if received == 1 else signal.SIGKILL)

    before = {
        number: signal.signal(number, receive)
        for number in STOPS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield processes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
