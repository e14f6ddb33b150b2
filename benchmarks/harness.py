"""Run measurements in turns, each in a separate process, and compute their ratios.

A shared machine slows down for minutes at a time. So every measurement is short, and the candidates take turns
(A B C A B C). A ratio compares two measurements of the same turn. The result is the median over the turns.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.progress import track

from itrd_nlp.errors import UserError

Figures = dict[str, float]


def take_turns(
    module: str, workers: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, list[Figures]]:
    """Run a benchmark once for each worker and round.

    Args:
        module: name of the benchmark in this package, such as ``losses``. The last line that it prints must be a JSON
            object of figures.
        workers: mapping from names to arguments of the command.
        rounds: number of runs of each worker.

    Returns:
        The figures of each worker, one entry for each round.

    Raises:
        UserError: a process failed. The message contains the end of its error output.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in workers}
    for turn in track(range(rounds * len(workers)), description="measuring"):
        name = list(workers)[turn % len(workers)]
        command = [sys.executable, "-m", f"benchmarks.{module}", *workers[name]]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"the measurement of {name} failed: {done.stderr[-2000:]}")
        runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    return runs


def ratio(a: Sequence[Figures], b: Sequence[Figures], figure: str) -> dict[str, Any]:
    """Divide a figure of ``a`` by the same figure of ``b``, turn by turn.

    Args:
        a: figures of one worker, one entry for each turn.
        b: figures of another worker, one entry for each turn.
        figure: name of the figure.

    Returns:
        ``ratios``, one for each turn, and their ``median``, ``least`` and ``most``.
    """
    ratios = [x[figure] / y[figure] for x, y in zip(a, b, strict=True)]
    return {
        "median": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "ratios": ratios,
    }


def median(runs: Sequence[Figures], figure: str) -> float:
    """Return the median of a figure over the turns."""
    return statistics.median(run[figure] for run in runs)
