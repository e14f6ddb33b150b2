"""Trainings in processes of their own, several at once, to be stopped and taken up again at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import IO

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from itrd_nlp.compare.plan import Cell, write_config
from itrd_nlp.files import keep_out, writing
from itrd_nlp.training.checkpoints import checkpoints

LOG_NAME = "train.log"
CONFIG_NAME = "config.yaml"
POLL_SECONDS = 0.2
_STARTED = "--- started"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A signal asked to stop; no training runs any more."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@dataclass(frozen=True)
class Failure:
    """A training that ended without results."""

    cell: Cell
    code: int

    def __str__(self) -> str:
        log = self.cell.folder / LOG_NAME
        how = f"exit code {self.code}" if self.code >= 0 else signal.Signals(-self.code).name
        return f"{self.cell.stage}/{self.cell.name} failed ({how}), see {log}: {_last_words(log)}"


def run_cells(
    cells: Sequence[Cell], *, program: Sequence[str], jobs: int, lock: int, console: Console
) -> list[Failure]:
    """Train what is not finished yet; go on when one fails.

    Each is ``itrd-nlp COMMAND FOLDER/config.yaml --resume_from_checkpoint true``, its output goes to the end of
    FOLDER/train.log. The first signal (Ctrl-C, SIGTERM, SIGHUP) lets each training save a checkpoint and leave, the
    second ends them at once. Checkpoints of a finished training are deleted.

    Args:
        cells: what to train, in this order.
        program: the words that start `itrd-nlp`.
        jobs: how many at the same time; they divide the threads of this process between them.
        lock: a file descriptor that the trainings keep open, so that a lock on it outlives this process.
        console: where progress goes.

    Returns:
        What failed.

    Raises:
        Stopped: a signal came.
        UserError: a folder holds a finished training of another config.
    """
    waiting = deque(cell for cell in cells if cell.results() is None)
    if not waiting:
        return []
    running: list[_Training] = []
    failures: list[Failure] = []
    seconds: list[float] = []  # of the trainings that this call has finished
    done = len(cells) - len(waiting)
    progress = Progress(
        *(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    with _caught() as signals, progress:
        bar = progress.add_task("", total=len(cells), completed=done)
        relayed = 0
        try:
            while running or (waiting and not signals):
                while waiting and len(running) < jobs and not signals:
                    running.append(_start(waiting.popleft(), program, jobs, lock))
                time.sleep(POLL_SECONDS)
                if len(signals) > relayed:
                    relayed = len(signals)
                    for training in running:
                        training.end(signal.SIGTERM if relayed == 1 else signal.SIGKILL)
                for training in [t for t in running if t.process.poll() is not None]:
                    running.remove(training)
                    results = training.cell.results()
                    if training.process.returncode == 0 and results is not None:
                        for checkpoint in checkpoints(training.cell.folder):
                            rmtree(checkpoint)
                        seconds.append(training.seconds)
                        done += 1
                        outcome = ", ".join(
                            f"{label} {results.scores[name]:.2f}"
                            for name, label in results.metrics.items()
                        )
                    elif signals:
                        outcome = "stopped"
                    else:
                        failures.append(Failure(training.cell, training.process.returncode))
                        outcome = "failed"
                    left = time_left(seconds, [t.seconds for t in running], len(waiting), jobs)
                    console.print(
                        f"[{done}/{len(cells)}] {training.cell.stage}/{training.cell.name}: {outcome}, "
                        f"{training.seconds:.0f} s{_left(left)}",
                        markup=False,
                        highlight=False,
                        soft_wrap=True,
                    )
                left = time_left(seconds, [t.seconds for t in running], len(waiting), jobs)
                names = ", ".join(t.cell.name for t in running)
                progress.update(bar, completed=done, description=names + _left(left))
        finally:
            for training in running:  # an error of this process: leave nothing behind
                training.end(signal.SIGTERM)
                training.process.wait()
    if signals:
        raise Stopped(signals[0])
    return failures


def time_left(
    finished: Sequence[float], running: Sequence[float], waiting: int, jobs: int
) -> float | None:
    """Seconds until all trainings are finished, if each takes as long as the mean of the finished ones.

    Args:
        finished: seconds that each of them took.
        running: seconds since each of them was started.
        waiting: how many are not started.
        jobs: how many run at the same time.

    Returns:
        None where none is finished yet.
    """
    if not finished:
        return None
    mean = sum(finished) / len(finished)
    left = [max(mean - elapsed, 0.0) for elapsed in running]
    # Whoever is ready first takes the next one.
    ready = sorted([*left, *[0.0] * (jobs - len(left))])
    for _ in range(waiting):
        ready = sorted([ready[0] + mean, *ready[1:]])
    return ready[-1]


def starts(cell: Cell) -> int:
    """How often a training was started, so more than once where it was taken up again."""
    path = cell.folder / LOG_NAME
    if not path.exists():
        return 0
    return path.read_text(encoding="utf-8", errors="replace").count(_STARTED)


@dataclass
class _Training:
    cell: Cell
    process: subprocess.Popen[bytes]
    started: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def end(self, number: signal.Signals) -> None:
        if self.process.poll() is not None:
            return
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, number)  # it may have processes that read data
        else:
            self.process.send_signal(number)


def _start(cell: Cell, program: Sequence[str], jobs: int, lock: int) -> _Training:
    environment = dict(os.environ)
    if jobs > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // jobs))
    token = cell.config.get("hub_token")
    if token is not None:  # it goes into no file
        keep_out(str(token))
        environment["HF_TOKEN"] = str(token)
    with writing(cell.folder), _log(cell) as log:
        write_config(cell.folder / CONFIG_NAME, cell.config)
        log.write(f"{_STARTED} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [
                *(*program, cell.command, str(cell.folder / CONFIG_NAME)),
                *cell.training.options,
                *("--resume_from_checkpoint", "true"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,  # a Ctrl-C of the terminal reaches this process alone, which passes it on
        )
    return _Training(cell, process, time.monotonic())


def _log(cell: Cell) -> IO[bytes]:
    cell.folder.mkdir(parents=True, exist_ok=True)
    return (cell.folder / LOG_NAME).open("ab")


@contextmanager
def _caught() -> Iterator[list[int]]:
    """Collect the signals that ask to stop, but for those that this process ignores, as under nohup."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: received.append(n))
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"; {f'{hours} h ' if hours else ''}{minutes} min left"


def _last_words(log: Path) -> str:
    """The sentence with which a script refused or broke off, else the last line."""
    lines = [
        line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line
    ]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]
