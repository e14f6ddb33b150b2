"""Trainings in processes of their own, several at once, to be stopped and taken up again at any moment."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from shutil import rmtree

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from itrd_nlp.compare.launching import LOG_NAME, Launcher, NotNow, Started, last_words
from itrd_nlp.compare.plan import Cell
from itrd_nlp.errors import UserError
from itrd_nlp.training.checkpoints import checkpoints
from itrd_nlp.training.children import STOPS

POLL_SECONDS = 0.2
RETRY_SECONDS = 60.0
"""After a scheduler has taken no job, none is submitted for so long."""
_REFUSED = 2  # the exit code of a command whose input makes no sense


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

    @property
    def sentence(self) -> str:
        """The last words of the training, without its own folder, which differs from those of all others."""
        return last_words(self.cell.folder / LOG_NAME).replace(str(self.cell.folder), "FOLDER")

    def __str__(self) -> str:
        log = self.cell.folder / LOG_NAME
        how = f"exit code {self.code}" if self.code >= 0 else signal.Signals(-self.code).name
        return f"{self.cell.stage}/{self.cell.name} failed ({how}), see {log}: {last_words(log)}"


def run_cells(
    cells: Sequence[Cell], *, launcher: Launcher, jobs: int, console: Console
) -> list[Failure]:
    """Train the cells that are not finished yet. Where one fails, the others go on.

    Each is ``itrd-nlp COMMAND FOLDER/config.yaml --resume_from_checkpoint true``, and its output goes to the end of
    FOLDER/train.log. The first signal (Ctrl-C, SIGTERM, SIGHUP) lets each training save a checkpoint and leave. The
    second one ends them at once. Checkpoints of a finished training are deleted.

    Args:
        cells: the trainings, in this order.
        launcher: starts them, here or on a cluster.
        jobs: number of trainings at the same time.
        console: where progress goes.

    Returns:
        The trainings that failed.

    Raises:
        Stopped: a signal came.
        UserError: a folder holds a finished training of another config; or several methods ended with the same
            sentence, so that the others would be, too.
    """
    waiting: deque[Cell] = deque()
    for cell in cells:
        if cell.results() is None:
            waiting.append(cell)
        else:
            _remove_checkpoints(cell)  # it may have ended when nobody looked
    if not waiting:
        return []
    run = _Run(waiting, len(cells), launcher, jobs, console)
    with _caught() as signals, run.progress:
        try:
            while run.running or (run.waiting and not signals):
                if not signals:
                    run.start()
                time.sleep(POLL_SECONDS)
                run.relay(signals)
                run.collect(stopped=bool(signals))
                run.show()
        finally:
            run.leave()
    if signals:
        raise Stopped(signals[0])
    return run.failures


def _remove_checkpoints(cell: Cell) -> None:
    for checkpoint in checkpoints(cell.folder):
        rmtree(checkpoint)


class _Run:
    """The trainings of one call of `run_cells`. Its arguments are those of the call."""

    def __init__(
        self,
        waiting: deque[Cell],
        total: int,
        launcher: Launcher,
        jobs: int,
        console: Console,
    ) -> None:
        self.waiting = waiting
        self.total = total
        self.launcher, self.jobs, self.console = launcher, jobs, console
        self.running: list[Started] = []
        self.failures: list[Failure] = []
        self.seconds: list[float] = []  # of the trainings that this call has finished
        self.done = total - len(waiting)
        self.relayed = 0  # signals that the trainings have
        self.not_before = 0.0  # when the next training may be started
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self.bar = self.progress.add_task("", total=total, completed=self.done)

    def start(self) -> None:
        """Start as many trainings as may run.

        Raises:
            NotNow: one cannot be started, and none runs whose end would change that.
        """
        if time.monotonic() < self.not_before:
            return
        while self.waiting and len(self.running) < self.jobs:
            try:
                self.running.append(self.launcher.start(self.waiting[0], self.jobs))
            except NotNow as refusal:
                if not self.running:
                    raise
                self.not_before = time.monotonic() + RETRY_SECONDS
                self._print(f"{refusal} It is tried again in {RETRY_SECONDS:.0f} s.")
                return
            self.waiting.popleft()

    def relay(self, signals: Sequence[int]) -> None:
        """Pass a new signal on: the first one asks to stop, the next one ends.

        Two may have come since the last call. The second one is then passed on by the next call.
        """
        if len(signals) > self.relayed:
            self.relayed += 1
            for training in self.running:
                training.end(signal.SIGTERM if self.relayed == 1 else signal.SIGKILL)

    def collect(self, *, stopped: bool) -> None:
        """Take the trainings that have ended, and print a line for each.

        Args:
            stopped: whether they were asked to stop, so that one without results has not failed.

        Raises:
            UserError: see `run_cells`.
        """
        for training in list(self.running):
            code = training.code()
            if code is None:
                continue
            self.running.remove(training)
            outcome = self._outcome(training, code, stopped)
            self._print(
                f"[{self.done}/{self.total}] {training.cell.stage}/{training.cell.name}: {outcome}, "
                f"{training.seconds:.0f} s{self._time_left()}"
            )
        if not self.seconds and self.waiting:
            _refuse_alike(self.failures, len(self.waiting))

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def _outcome(self, training: Started, code: int, stopped: bool) -> str:
        results = training.cell.results()
        if code == 0 and results is not None:
            _remove_checkpoints(training.cell)
            self.seconds.append(training.seconds)
            self.done += 1
            scores = (f"{label} {results.scores[n]:.2f}" for n, label in results.metrics.items())
            return ", ".join(scores)
        if stopped:
            return "stopped"
        self.failures.append(Failure(training.cell, code))
        return "failed"

    def show(self) -> None:
        """Bring the bar up to date."""
        names = ", ".join(training.cell.name for training in self.running)
        self.progress.update(self.bar, completed=self.done, description=names + self._time_left())

    def leave(self) -> None:
        """End what still runs, which is so after an error of this process alone."""
        for training in self.running:
            training.end(signal.SIGTERM)
        while any(training.code() is None for training in self.running):
            time.sleep(POLL_SECONDS)

    def _time_left(self) -> str:
        running = [training.seconds for training in self.running]
        return _shown(time_left(self.seconds, running, len(self.waiting), self.jobs))


def _refuse_alike(failures: Sequence[Failure], waiting: int) -> None:
    """Refuse to go on where no training has ended well and several methods ended with the same code and sentence.

    They were refused, or an error of Python ended them. One that a signal ended says nothing about the others.

    Raises:
        UserError: has the sentence.
    """
    sentences = {failure.sentence for failure in failures}
    methods = {failure.cell.method for failure in failures}
    codes = {failure.code for failure in failures}
    if len(codes) == len(sentences) == 1 and min(codes) > 0 and len(methods) > 1:
        reason = sentences.pop().removeprefix("error: ")
        how = "were refused" if codes == {_REFUSED} else "failed"
        raise UserError(
            f"{len(failures)} trainings {how} alike, so the other {waiting} are not started: {reason}"
        )


def time_left(
    finished: Sequence[float], running: Sequence[float], waiting: int, jobs: int
) -> float | None:
    """Seconds until all trainings are finished, if each takes as long as the mean of the finished ones.

    Args:
        finished: seconds that each of them took.
        running: seconds since each of them was started.
        waiting: number of trainings that are not started.
        jobs: number of trainings at the same time.

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


@contextmanager
def _caught() -> Iterator[list[int]]:
    """Collect the signals that ask to stop, but for those that this process ignores, as under nohup."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: received.append(n))
        for number in STOPS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shown(seconds: float | None) -> str:
    if seconds is None:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"; {f'{hours} h ' if hours else ''}{minutes} min left"
