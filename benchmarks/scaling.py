"""Measure distillation steps with windows of different lengths and with batches of different sizes.

    python -m benchmarks.scaling [--shape minilm|bert] [--student_layers 3] [--output FILE]

Each measurement times whole steps of `ITRDTrainer` in bf16, with the teacher, on windows of one length.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli import parser, process


@dataclass
class ScalingArguments:
    """Options of this command."""

    shape: str = field(
        default="minilm",
        metadata={"help": "Size of the teacher.", "choices": ["minilm", "bert"]},
    )
    student_layers: int = field(default=3, metadata={"help": "Layers of the student."})
    lengths: list[int] = field(
        default_factory=lambda: [64, 128, 192, 256, 384, 512],
        metadata={"help": "Lengths in tokens, in batches of 32 windows."},
    )
    batch_sizes: list[int] = field(
        default_factory=lambda: [8, 16, 32, 64, 128],
        metadata={"help": "Batch sizes, with windows of 176 tokens."},
    )
    steps: int = field(default=4, metadata={"help": "Timed steps, after two untimed steps."})
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )


def main() -> None:
    (args,) = parser.parse([ScalingArguments], description=__doc__)
    from rich.console import Console
    from rich.progress import track

    from benchmarks.training import train
    from benchmarks.windows import random_collator, random_windows
    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    points = [("length", 32, length) for length in args.lengths]
    points += [("batch", size, 176) for size in args.batch_sizes]
    found: dict[str, list[dict[str, float]]] = {"length": [], "batch": []}
    for what, batch_size, length in track(points, description="measuring"):
        clock = train(
            args.shape,
            args.student_layers,
            random_windows([length] * batch_size * (args.steps + 2)),
            random_collator(),
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
        )
        seconds = statistics.median(clock.steps()[2:])
        point = {"batch_size": batch_size, "length": length, "seconds": seconds}
        found[what].append(point | {"tokens_per_second": batch_size * length / seconds})
    for points_of_one in found.values():
        for point in points_of_one:
            Console().print({name: round(value, 3) for name, value in point.items()})
    if args.output is not None:
        content = {"arguments": vars(args), **found, "environment": environment()}
        write_json(Path(args.output), content)


if __name__ == "__main__":
    process.run(main)
