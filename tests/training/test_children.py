"""A process that waits for another one hears a signal at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from itrd_nlp.compare.job import Job
from itrd_nlp.training.children import run_child

ENDS = [sys.executable, "-c", "import time; time.sleep(0.3); raise SystemExit(7)"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def no_blocking_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal just before a wait that blocks in the system would be handled when the other process has ended."""
    waitpid = os.waitpid

    def looks_only(pid: int, options: int) -> tuple[int, int]:
        assert options & os.WNOHANG, "a wait that blocks"
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", looks_only)


@pytest.mark.usefixtures("no_blocking_wait")
def test_a_child_is_looked_at_and_never_waited_for(tmp_path: Path) -> None:
    assert run_child(ENDS) == 7
    assert Job(ENDS, tmp_path / "train.log")() == 7


@pytest.mark.usefixtures("no_blocking_wait")
def test_a_wait_that_blocks_would_be_found() -> None:
    process = subprocess.Popen(ENDS)
    with pytest.raises(AssertionError, match="a wait that blocks"):
        process.wait()
    process.wait(timeout=20)
