"""Commands that a command runs in processes of their own. No import here loads a library."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask to stop."""


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process and return its exit code. A signal is handled within a tenth of a second.

    `Popen.wait` blocks in the system. A signal that comes just before would be handled when the process has ended.
    """
    while (code := process.poll()) is None:
        time.sleep(0.1)
    return code


def run_child(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command and pass signals on to it: the first one asks it to save and leave, the next one ends it.

    Args:
        command: the words of the command.
        environment: its variables. Default: those of this process.

    Returns:
        Its exit code; negative: the number of the signal that ended it.
    """
    process: subprocess.Popen[bytes] | None = None
    received = sent = 0

    def pass_on() -> None:
        nonlocal sent
        while process is not None and sent < received:
            sent += 1
            process.send_signal(signal.SIGTERM if sent == 1 else signal.SIGKILL)

    def receive(*_: object) -> None:
        nonlocal received
        received += 1
        pass_on()

    before = {
        number: signal.signal(number, receive)
        for number in STOPS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        # A session of its own: a Ctrl-C of the terminal reaches this process alone, which passes it on.
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        pass_on()  # what came before there was a process
        return wait_for(process)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
