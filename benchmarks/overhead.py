"""What ITRD costs on top of plain logit KD: time and peak memory of whole training steps.

    python benchmarks/overhead.py [--shape minilm|bert] [--rounds 5] [--output benchmarks/overhead.json]

Teacher and student have random weights of the shape named: speed does not depend on what they learned. Each
measurement is a process of its own, the two objectives in turn (A B A B), and the ratio is taken pair by pair.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itrd_nlp.cli import parser, process

OBJECTIVES = {"kd": {"beta_corr": 0.0, "beta_mi": 0.0}, "itrd": {}}


@dataclass
class OverheadArguments:
    """What is measured."""

    shape: str = field(
        default="minilm",
        metadata={"help": "Layers and widths of the teacher.", "choices": ["minilm", "bert"]},
    )
    student_layers: int = field(default=3, metadata={"help": "Layers of the student."})
    batch_size: int = field(default=32, metadata={"help": "Windows a step."})
    length: int = field(
        default=176, metadata={"help": "Longest window of a batch; the shortest is 3/4 of it."}
    )
    steps: int = field(
        default=10, metadata={"help": "Steps timed in a process, after 3 that are not."}
    )
    corr_max_samples: int | None = field(
        default=None, metadata={"help": "Of ITRD; default: the package's."}
    )
    mi_max_samples: int | None = field(default=None, metadata={"help": "The same."})
    rounds: int = field(default=5, metadata={"help": "Processes per objective."})
    output: str | None = field(default=None, metadata={"help": "Write the figures here, as JSON."})
    worker: str | None = field(
        default=None,
        metadata={
            "help": "Measure this objective alone, in this process.",
            "choices": list(OBJECTIVES),
        },
    )


def measure(args: OverheadArguments, objective: str) -> dict[str, float]:
    """Seconds of a step, tokens a second and peak memory of this process."""
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

    from benchmarks.harness import median, ratio, take_turns
    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    workers = {objective: [*sys.argv[1:], "--worker", objective] for objective in OBJECTIVES}
    runs = take_turns(__file__, workers, args.rounds)
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
    # In place of this folder, where profile.py would be taken for the standard library's.
    sys.path[0] = str(Path(__file__).parents[1])
    process.run(main)
