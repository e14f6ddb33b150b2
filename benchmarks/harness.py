"""Run measurements in turns, each in a separate process, and compute their ratios.

A shared machine slows down for minutes at a time. So every measurement is short, and the candidates take turns
(A B C A B C). A ratio compares two measurements of the same turn. The result is the median over the turns.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.progress import track

from itrd_nlp.errors import UserError

Figures = dict[str, float]


Runs = dict[str, list[Figures]]


def take_turns(module: str, workers: Mapping[str, Sequence[str]], rounds: int) -> Runs:
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
    runs: Runs = {name: [] for name in workers}
    for name in _turns(workers, rounds):
        runs[name].append(_run(module, name, workers[name]))
    return runs


def take_turns_without_the_failed(
    module: str,
    workers: Mapping[str, Sequence[str]],
    rounds: int,
    *,
    after_each: Callable[[Runs], None],
) -> list[str]:
    """Run a benchmark like `take_turns`, and go on without a worker that fails.

    A worker that is too large for the machine, or whose package does not work here, costs only its own figures.

    Args:
        module: see `take_turns`.
        workers: see `take_turns`.
        rounds: see `take_turns`.
        after_each: gets the figures so far after each process that did not fail, without workers that have none.

    Returns:
        The names of the workers that failed. Their sentences are printed.
    """
    runs: Runs = {name: [] for name in workers}
    failed: list[str] = []
    for name in _turns(workers, rounds):
        if name in failed:
            continue
        try:
            runs[name].append(_run(module, name, workers[name]))
        except UserError as error:
            failed.append(name)
            print(error, file=sys.stderr, flush=True)
            continue
        after_each({name: found for name, found in runs.items() if found})
    return failed


def _turns(workers: Iterable[str], rounds: int) -> Iterator[str]:
    """Yield the name of each worker, once in each round."""
    yield from track([*workers] * rounds, description="measuring")


def _run(module: str, name: str, arguments: Sequence[str]) -> Figures:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the measurement of {name} failed: {done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def ratio(a: Sequence[Figures], b: Sequence[Figures], figure: str) -> dict[str, Any]:
    """Divide a figure of ``a`` by the same figure of ``b``, turn by turn, for the turns that both have.

    Args:
        a: figures of one worker, one entry for each turn.
        b: figures of another worker, one entry for each turn.
        figure: name of the figure.

    Returns:
        ``ratios``, one for each turn, and their ``median``, ``least`` and ``most``.
    """
    ratios = [x[figure] / y[figure] for x, y in zip(a, b, strict=False)]
    return {
        "median": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "ratios": ratios,
    }


def median(runs: Sequence[Figures], figure: str) -> float:
    """Return the median of a figure over the turns."""
    return statistics.median(run[figure] for run in runs)
