"""One training of a comparison: its files, and how it is started in a process of its own on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from itrd_nlp.compare.job import STARTED
from itrd_nlp.compare.plan import Cell
from itrd_nlp.compare.setting import write_config
from itrd_nlp.errors import UserError
from itrd_nlp.files import keep_out, writing

LOG_NAME = "train.log"
CONFIG_NAME = "config.yaml"


class NotNow(UserError):
    """A training could not be started, which may work later. See `UserError`."""


class Started(ABC):
    """A training that was started.

    Args:
        cell: the training.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start; on a cluster those of waiting are among them."""
        return time.monotonic() - self.began

    @abstractmethod
    def code(self) -> int | None:
        """Its exit code, None while it runs. Negative: the number of the signal that ended it."""

    @abstractmethod
    def end(self, number: signal.Signals) -> None:
        """Ask it to save a checkpoint and leave (SIGTERM), or end it at once (SIGKILL)."""


class Launcher(ABC):
    """Starts trainings."""

    @abstractmethod
    def start(self, cell: Cell, jobs: int) -> Started:
        """Start a training.

        Args:
            cell: the training.
            jobs: number of trainings at the same time.

        Raises:
            NotNow: it cannot be started at this moment.
        """


class LocalProcesses(Launcher):
    """Starts each training in a process of this machine, where it sees the GPU with the fewest of these trainings.

    Args:
        program: the words that start `itrd-nlp`.
        lock: a file descriptor that the trainings keep open, so that a lock on it outlives this process.
    """

    def __init__(self, program: Sequence[str], lock: int) -> None:
        self.program, self.lock = program, lock
        self.gpus, self.trainings = gpus_in_sight(), list[_LocalTraining]()

    def start(self, cell: Cell, jobs: int) -> Started:
        """See `Launcher.start`. The trainings divide the threads of this process between them."""
        environment, gpu = {}, self._free_gpu()
        if jobs > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // jobs))
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        words = prepared(cell, self.program)
        with writing(cell.folder), with_token(cell), (cell.folder / LOG_NAME).open("ab") as log:
            log.write(f"{STARTED} {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
            log.flush()
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                pass_fds=(self.lock,),
                start_new_session=True,  # a Ctrl-C reaches this process alone, which passes it on
            )
        self.trainings.append(_LocalTraining(cell, process, gpu))
        return self.trainings[-1]

    def _free_gpu(self) -> str | None:
        self.trainings = [training for training in self.trainings if training.code() is None]
        busy = [training.gpu for training in self.trainings]
        return min(self.gpus, key=busy.count, default=None)


class _LocalTraining(Started):
    def __init__(self, cell: Cell, process: subprocess.Popen[bytes], gpu: str | None) -> None:
        super().__init__(cell)
        self.process, self.gpu = process, gpu

    def code(self) -> int | None:
        return self.process.poll()

    def end(self, number: signal.Signals) -> None:
        if self.process.poll() is not None:
            return
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, number)  # it may have processes that read data
        else:
            self.process.send_signal(number)


def gpus_in_sight() -> list[str]:
    """The CUDA GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(n) for n in range(count)] if named is None else named.split(",")
    return [name.strip() for name in names[:count]]


def prepared(cell: Cell, program: Sequence[str]) -> list[str]:
    """Make the folder of a training and write its config; return the words of its command."""
    with writing(cell.folder):
        cell.folder.mkdir(parents=True, exist_ok=True)
        write_config(cell.folder / CONFIG_NAME, cell.config)
    command = [*program, cell.command, str(cell.folder / CONFIG_NAME), *cell.training.options]
    return [*command, "--resume_from_checkpoint", "true"]


@contextmanager
def with_token(cell: Cell) -> Iterator[None]:
    """Set HF_TOKEN to the token of a config, which goes into no file, for the processes that are started meanwhile."""
    token, before = cell.config.get("hub_token"), os.environ.get("HF_TOKEN")
    if token is None:
        yield
        return
    keep_out(str(token))
    os.environ["HF_TOKEN"] = str(token)
    try:
        yield
    finally:
        del os.environ["HF_TOKEN"]
        if before is not None:
            os.environ["HF_TOKEN"] = before


def starts(cell: Cell) -> int:
    """Number of times that a training was started. It is above 1 where the training was taken up again."""
    path = cell.folder / LOG_NAME
    if not path.exists():
        return 0
    return path.read_text(encoding="utf-8", errors="replace").count(STARTED)


def last_words(log: Path) -> str:
    """The sentence with which a script refused or broke off, else the last line: of its last start."""
    if not log.exists():
        return ""
    text = log.read_text(encoding="utf-8", errors="replace")
    _, _, last = text.rpartition(STARTED)
    lines = last.splitlines()
    if STARTED in text:
        lines = lines[1:]  # the first one is the time of the start
    lines = [line for line in lines if line]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]
