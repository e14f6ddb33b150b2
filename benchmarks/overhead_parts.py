"""Measure what each part of ITRD costs a layer pair in a training step on the CPU.

    python -m benchmarks.overhead_parts [--output benchmarks/overhead_parts.json]

`benchmarks.overhead` measures the whole. This command measures its parts, forward and backward, with the defaults of
the objective: 2,048 tokens for the correlation loss and 512 for the MI loss, in bf16 if the machine supports it. The
figures are CPU time of one thread, the least of several runs, so that other work on the machine changes them little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itrd_nlp.cli import parser, process

WIDTHS = (384, 768)
POSITIONS = 32 * 176
CORR_TOKENS = 2048
MI_TOKENS = 512


@dataclass
class PartsArguments:
    """Options of this command."""

    repeats: int = field(default=15, metadata={"help": "Runs of each part; the least time counts."})
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )


def milliseconds(run: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU time of several runs, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return 1000 * min(times)


def measure(width: int, repeats: int) -> dict[str, float]:
    """Return the milliseconds of each part for one layer pair of a width."""
    import torch

    from benchmarks.training import training_dtype
    from itrd_nlp.distillation.samples import take
    from itrd_nlp.losses import correlation_loss, make_projection, mutual_information_loss
    from itrd_nlp.losses.views import draw_samples

    dtype = training_dtype()
    torch.manual_seed(0)
    hidden = torch.randn(1, POSITIONS, width, requires_grad=True)
    teacher = torch.randn(1, POSITIONS, width).to(dtype)
    drawn = draw_samples(torch.ones(POSITIONS), CORR_TOKENS)
    projection = make_projection(width, width)
    taken = take(hidden, drawn).detach().requires_grad_()
    target = take(teacher, drawn)

    def projected() -> torch.Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            found: torch.Tensor = projection(taken)
            return found

    student = projected().detach().requires_grad_()
    few = taken[:MI_TOKENS].detach().requires_grad_()

    def both(forward: Callable[[], torch.Tensor], *leaves: torch.Tensor) -> float:
        gradient = torch.ones_like(forward())
        return milliseconds(lambda: torch.autograd.grad(forward(), leaves, gradient), repeats)

    return {
        "draw": both(lambda: take(hidden, drawn), hidden)
        + milliseconds(lambda: take(teacher, drawn), repeats),
        "projection": both(projected, taken, *projection.parameters()),
        "correlation": both(lambda: correlation_loss(student, target), student),
        "mutual_information": both(lambda: mutual_information_loss(few, target[:MI_TOKENS]), few),
    }


def main() -> None:
    (args,) = parser.parse([PartsArguments], description=__doc__)
    import torch
    from rich.console import Console
    from rich.table import Table

    from benchmarks.training import training_precision
    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    torch.set_num_threads(1)
    figures = {str(width): measure(width, args.repeats) for width in WIDTHS}
    table = Table(title="CPU milliseconds of a layer pair in a step, one thread")
    table.add_column("part")
    for width in WIDTHS:
        table.add_column(f"{width} wide", justify="right")
    for part in figures[str(WIDTHS[0])]:
        table.add_row(part, *(f"{figures[str(width)][part]:.1f}" for width in WIDTHS))
    Console().print(table)
    if args.output is not None:
        content = {
            "arguments": {"repeats": args.repeats},
            "precision": training_precision(),
            "figures": figures,
        }
        write_json(Path(args.output), content | {"environment": environment()})


if __name__ == "__main__":
    process.run(main)
