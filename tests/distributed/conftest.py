"""Real processes, started as a user starts them. Each launch takes seconds, so tests share what one found."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

ROOT = Path(__file__).parents[2]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the repository on the path."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(folder / "cache"),
        "COLUMNS": "120",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="session")
def launch() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`accelerate launch --config_file configs/accelerate/cpu_2proc.yaml ...` in a folder."""

    def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = str(ROOT / "configs" / "accelerate" / "cpu_2proc.yaml")
        launcher = ["-m", "accelerate.commands.launch", "--config_file", config]
        return run([*launcher, *arguments], folder)

    return launch


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory, launch: Any) -> Callable[[int], list[Any]]:
    """The findings of the processes of `worker.py`, by rank, from the number of processes.

    Each number is run once, by the test process that asks first.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    worker = str(Path(__file__).parent / "worker.py")

    @functools.cache
    def found(processes: int) -> list[Any]:
        folder = shared / f"{processes}_processes"
        folder.mkdir(exist_ok=True)
        done, log = folder / "done", folder / "stderr"
        with FileLock(folder / "lock"):
            if not log.exists():
                if processes == 1:
                    result = run([worker, str(folder)], folder)
                else:
                    result = launch(folder, "--num_processes", str(processes), worker, str(folder))
                log.write_text(result.stderr)
                if result.returncode == 0:
                    done.touch()
        stderr = log.read_text()
        assert done.exists(), stderr[-5000:]
        ranks = range(processes)
        results = [torch.load(folder / f"{processes}.{r}.pt", weights_only=False) for r in ranks]
        return [result | {"stderr": stderr} for result in results]

    return found
