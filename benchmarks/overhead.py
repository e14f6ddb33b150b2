"""Compare the time and the peak memory of training steps with ITRD and of steps with logit KD alone.

    python -m benchmarks.overhead [--shape minilm|bert] [--rounds 5] [--output benchmarks/overhead.json]

Teacher and student have random weights, because training does not change the speed. Every measurement is a separate
process. The two objectives take turns (A B A B), and each ratio compares the two measurements of one turn.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import median, ratio, take_turns
from itrd_nlp.cli import parser, process

OBJECTIVES: dict[str, dict[str, Any]] = {"kd": {"beta_corr": 0.0, "beta_mi": 0.0}, "itrd": {}}


@dataclass
class OverheadArguments:
    """Options of this command."""

    shape: str = field(
        default="minilm",
        metadata={"help": "Size of the teacher.", "choices": ["minilm", "bert"]},
    )
    student_layers: int = field(default=3, metadata={"help": "Layers of the student."})
    batch_size: int = field(default=32, metadata={"help": "Windows of a step."})
    length: int = field(
        default=176,
        metadata={"help": "Longest window of a batch in tokens. The shortest one has 3/4 of it."},
    )
    steps: int = field(
        default=10, metadata={"help": "Timed steps in a process, after 3 untimed steps."}
    )
    corr_max_samples: int | None = field(
        default=None,
        metadata={"help": "See ITRDTrainingArguments, with its default."},
    )
    mi_max_samples: int | None = field(
        default=None,
        metadata={"help": "See ITRDTrainingArguments, with its default."},
    )
    rounds: int = field(default=5, metadata={"help": "Processes for each objective."})
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )
    worker: str | None = field(
        default=None,
        metadata={
            "help": "Measure only this objective, in this process.",
            "choices": list(OBJECTIVES),
        },
    )


def measure(args: OverheadArguments, objective: str) -> dict[str, float]:
    """Measure the seconds of a step, the tokens per second and the peak memory of this process."""
    from benchmarks.training import peak_megabytes, train
    from benchmarks.windows import random_collator, random_windows

    samples = {name: getattr(args, name) for name in ("corr_max_samples", "mi_max_samples")}
    warm_up = 3
    lengths = [
        args.length - i % (args.length // 4) if i % args.batch_size else args.length
        for i in range(args.batch_size * (args.steps + warm_up))
    ]
    clock = train(
        args.shape,
        args.student_layers,
        random_windows(lengths),
        random_collator(),
        max_steps=args.steps + warm_up,
        per_device_train_batch_size=args.batch_size,
        train_sampling_strategy="sequential",
        **OBJECTIVES[objective],
        **{name: value for name, value in samples.items() if value is not None},
    )
    times = clock.steps()
    seconds = statistics.median(times[warm_up:])
    tokens = sum(lengths) / len(times)
    return {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_megabytes": peak_megabytes(),
    }


def main() -> None:
    (args,) = parser.parse([OverheadArguments], description=__doc__)
    if args.worker is not None:
        print(json.dumps(measure(args, args.worker)))
        return
    from rich.console import Console
    from rich.table import Table

    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    workers = {objective: [*sys.argv[1:], "--worker", objective] for objective in OBJECTIVES}
    runs = take_turns("overhead", workers, args.rounds)
    figures: dict[str, Any] = {}
    table = Table(title=f"ITRD + KD over KD alone, {args.shape}, median of {args.rounds} pairs")
    for column in ("", "KD", "ITRD + KD", "ratio", "least", "most"):
        table.add_column(column, justify="right")
    for name in ("seconds", "tokens_per_second", "peak_megabytes"):
        kd, itrd = (median(runs[objective], name) for objective in OBJECTIVES)
        over = ratio(runs["itrd"], runs["kd"], name)
        figures[name] = {"kd": kd, "itrd": itrd, "ratio": over["median"], "ratios": over["ratios"]}
        shown = [kd, itrd, over["median"], over["least"], over["most"]]
        table.add_row(name, *(f"{value:.4g}" for value in shown))
    Console().print(table)
    if args.output is not None:
        content = {
            "arguments": vars(args),
            "figures": figures,
            "runs": runs,
            "environment": environment(),
        }
        write_json(Path(args.output), content)


if __name__ == "__main__":
    process.run(main)
