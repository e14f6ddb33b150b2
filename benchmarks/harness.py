"""Measurements as processes of their own, in turn, and the ratios between them.

A machine that is shared slows down for minutes at a time. So every measurement is short and a process of its own, the
candidates take turns (A B C A B C), a ratio is taken within a turn, and the median over the turns is the figure.
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
    script: str, workers: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, list[Figures]]:
    """Run a script once a worker and round. The last line that it prints is a JSON object of its figures.

    Args:
        script: path of the script.
        workers: name to arguments.
        rounds: how often each runs.

    Raises:
        UserError: a process failed; the end of what it wrote is in the sentence.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in workers}
    for turn in track(range(rounds * len(workers)), description="measuring"):
        name = list(workers)[turn % len(workers)]
        command = [sys.executable, script, *workers[name]]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"the measurement of {name} failed: {done.stderr[-2000:]}")
        runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    return runs


def ratio(a: Sequence[Figures], b: Sequence[Figures], figure: str) -> dict[str, Any]:
    """How many times the figure of ``a`` that of ``b`` is, turn by turn.

    Returns:
        ``median``, ``least`` and ``most`` of the ratios, and the ``ratios`` themselves.
    """
    ratios = [x[figure] / y[figure] for x, y in zip(a, b, strict=True)]
    return {
        "median": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "ratios": ratios,
    }


def median(runs: Sequence[Figures], figure: str) -> float:
    """The median of a figure over the turns."""
    return statistics.median(run[figure] for run in runs)
