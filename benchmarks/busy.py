"""Measure training steps alone and beside other work, by the way in which idle threads of OpenMP wait.

    python -m benchmarks.busy [--rounds 3] [--output benchmarks/busy.json]

A thread of OpenMP that has finished its part of an operation spins until the others have finished theirs. On a busy
machine the others may have to wait for a core on which such a thread spins. Each policy sets variables of the
environment before torch is loaded. The policies take turns, each in a separate process, first alone and then beside one
process of pure Python for each core. Teacher and student have random weights.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import median, ratio, take_turns
from itrd_nlp.cli import parser, process

POLICIES: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "short": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
PLACES = ("alone", "busy")


@dataclass
class BusyArguments:
    """Options of this command."""

    steps: int = field(
        default=8, metadata={"help": "Timed steps in a process, after 2 untimed steps."}
    )
    batch_size: int = field(default=16, metadata={"help": "Windows of a step."})
    length: int = field(default=176, metadata={"help": "Length of all windows, in tokens."})
    shape: str = field(
        default="minilm",
        metadata={"help": "Size of the teacher.", "choices": ["tiny", "minilm", "bert"]},
    )
    places: list[str] = field(
        default_factory=lambda: list(PLACES),
        metadata={"help": "Measure alone, beside other work, or both.", "choices": list(PLACES)},
    )
    rounds: int = field(default=3, metadata={"help": "Processes for each policy and place."})
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )
    worker: str | None = field(
        default=None,
        metadata={"help": "Measure only this policy, in this process.", "choices": list(POLICIES)},
    )


def measure(args: BusyArguments, policy: str) -> dict[str, float]:
    """Measure the seconds of a step in this process, which must not have loaded torch yet."""
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(POLICIES[policy])
    from benchmarks.training import train
    from benchmarks.windows import random_collator, random_windows

    warm_up = 2
    clock = train(
        args.shape,
        3 if args.shape == "minilm" else 2,
        random_windows([args.length] * (args.batch_size * (args.steps + warm_up))),
        random_collator(),
        max_steps=args.steps + warm_up,
        per_device_train_batch_size=args.batch_size,
        train_sampling_strategy="sequential",
    )
    return {"seconds": statistics.median(clock.steps()[warm_up:])}


@contextmanager
def other_work(processes: int) -> Iterator[None]:
    """Keep this number of processes busy, each on one thread."""
    code = "while True: sum(range(1000))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def main() -> None:
    (args,) = parser.parse([BusyArguments], description=__doc__)
    if args.worker is not None:
        print(json.dumps(measure(args, args.worker)))
        return
    from rich.console import Console
    from rich.table import Table

    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    cores = len(os.sched_getaffinity(0))
    workers = {policy: [*sys.argv[1:], "--worker", policy] for policy in POLICIES}
    figures: dict[str, Any] = {}
    table = Table(title=f"Seconds of a step, {args.shape}, median of {args.rounds}")
    for column in ("", *POLICIES, *(f"{name} / default" for name in POLICIES if name != "default")):
        table.add_column(column, justify="right")
    for place in args.places:
        with other_work(cores if place == "busy" else 0):
            runs = take_turns("busy", workers, args.rounds)
        ratios = {
            name: ratio(runs[name], runs["default"], "seconds")
            for name in POLICIES
            if name != "default"
        }
        figures[place] = {"runs": runs, "ratios": ratios}
        table.add_row(
            place,
            *(f"{median(runs[name], 'seconds'):.3f}" for name in POLICIES),
            *(f"{found['median']:.2f}" for found in ratios.values()),
        )
    Console().print(table)
    if args.output is not None:
        content = {"arguments": vars(args), "cores": cores, "figures": figures}
        write_json(Path(args.output), content | {"environment": environment()})


if __name__ == "__main__":
    process.run(main)
