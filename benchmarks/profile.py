"""Measure how a training step spends its time: shares of operators, page faults, and time in the kernel.

    python -m benchmarks.profile [--shape minilm|bert] [--student_layers 3] [--output FILE]

The benchmark runs a few steps of `ITRDTrainer` on real windows. The first run has the settings of the configs and
scripts. Each further run resets one of them: glibc's allocator, transformers' attentions, dropout. The last run is
under torch's profiler. The profiler itself takes time, so its figures are shares.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from itrd_nlp.cli import parser, process

MODES = ("clock", "default_allocator", "eager", "sdpa", "dropout", "profiler")
CHANGES: dict[str, dict[str, Any]] = {
    "eager": {"attention": "eager"},
    "sdpa": {"attention": "sdpa"},
    "dropout": {"dropout": 0.1},
}
# An operator belongs to the first kind with a word that its name contains. Backward operators contain the same words.
KINDS = (
    ("fused attention", ("scaled_dot_product",)),
    ("matrix products", ("mm", "linear", "matmul", "conv")),
    ("softmax", ("softmax",)),
    ("layer norm", ("layer_norm",)),
    ("gelu", ("gelu",)),
    ("dropout", ("dropout", "bernoulli")),
    ("casts and copies", ("copy_", "_to_copy", "clone", "contiguous", "cat")),
    ("embeddings", ("embedding", "index")),
    ("optimizer", ("adam", "foreach", "vector_norm")),
    ("allocation", ("empty", "zeros", "fill_", "zero_")),
    (
        "elementwise and sums",
        ("mul", "add", "sub", "div", "pow", "sum", "where", "masked", "sqrt", "exp", "log"),
    ),
)


@dataclass
class ProfileArguments:
    """Options of this command."""

    shape: str = field(
        default="minilm",
        metadata={"help": "Size of the teacher.", "choices": ["minilm", "bert"]},
    )
    student_layers: int = field(default=3, metadata={"help": "Layers of the student."})
    batch_size: int = field(default=32, metadata={"help": "Windows of a step."})
    steps: int = field(default=6, metadata={"help": "Measured steps, after two steps to warm up."})
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )
    worker: str | None = field(
        default=None,
        metadata={"help": "Run only this mode, in this process.", "choices": list(MODES)},
    )


def measure(args: ProfileArguments, mode: str) -> dict[str, Any]:
    """Measure one mode."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.train_step import TrainStepArguments, timed_training
    from benchmarks.training import Around, forget_warm_up

    step_args = TrainStepArguments(
        shape=args.shape,
        student_layers=args.student_layers,
        batch_size=args.batch_size,
        steps=args.steps,
    )
    train = partial(timed_training(step_args), **CHANGES.get(mode, {}))
    train(max_steps=2)
    forget_warm_up()
    if mode != "profiler":
        usage: list[resource.struct_rusage] = []

        def note() -> None:
            usage.append(resource.getrusage(resource.RUSAGE_SELF))

        clock = train(callbacks=[Around(note, note)])
        before, after = usage
        seconds = clock.ended[-1] - clock.train_began
        fetched = [b - a for a, b in zip(clock.ended[:-1], clock.began[1:], strict=True)]
        return {
            "seconds_per_step": seconds / args.steps,
            # Workers of a data loader could fetch and pad the next batch during a step.
            "fetch_share": sum(fetched) / (clock.ended[-1] - clock.ended[0]),
            "page_faults_per_step": (after.ru_minflt - before.ru_minflt) / args.steps,
            "kernel_share": (after.ru_stime - before.ru_stime)
            / (after.ru_stime + after.ru_utime - before.ru_stime - before.ru_utime),
        }
    profiler = profile(activities=[ProfilerActivity.CPU])
    train(callbacks=[Around(profiler.start, profiler.stop)])
    return shares(profiler.key_averages()) | {"threads": torch.get_num_threads()}


def shares(events: Iterable[Any]) -> dict[str, Any]:
    """Return the shares of the time by kind of operator, and those of the 25 operators with most of it.

    Args:
        events: the averages of torch's profiler, one for each operator.
    """
    kinds: dict[str, float] = {}
    operators: dict[str, float] = {}
    for event in events:
        if event.self_cpu_time_total <= 0 or event.key.startswith(("Optimizer.", "ProfilerStep")):
            continue
        kind = next((k for k, words in KINDS if any(w in event.key for w in words)), "other")
        kinds[kind] = kinds.get(kind, 0) + event.self_cpu_time_total
        operators[event.key] = operators.get(event.key, 0) + event.self_cpu_time_total
    total = sum(kinds.values())
    top = sorted(operators.items(), key=lambda item: -item[1])[:25]
    return {
        "shares": {kind: time / total for kind, time in sorted(kinds.items(), key=lambda i: -i[1])},
        "operators": {name: time / total for name, time in top},
    }


def main() -> None:
    (args,) = parser.parse([ProfileArguments], description=__doc__)
    if args.worker is not None:
        print(json.dumps(measure(args, args.worker)))
        return
    from rich.console import Console
    from rich.table import Table

    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    found: dict[str, Any] = {}
    for mode in MODES:
        command = [sys.executable, "-m", "benchmarks.profile", *sys.argv[1:], "--worker", mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[mode] = json.loads(done.stdout.splitlines()[-1])
    table = Table(title=f"A step of {args.shape}, student of {args.student_layers} layers")
    table.add_column("kind")
    table.add_column("share of the time", justify="right")
    for kind, share in found["profiler"]["shares"].items():
        table.add_row(kind, f"{100 * share:.1f} %")
    Console().print(table)
    for mode in MODES[:-1]:
        Console().print(mode, found[mode])
    if args.output is not None:
        content = {"arguments": vars(args), **found, "environment": environment()}
        write_json(Path(args.output), content)


if __name__ == "__main__":
    if "default_allocator" not in sys.argv:
        process.run(main)
    else:
        main()  # process.run would change the settings of the allocator
