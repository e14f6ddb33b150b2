"""Compare a student's training step with the machine's own rate of matrix products.

    python -m benchmarks.matmul_share [--shape minilm|bert] [--student_layers 3] [--output FILE]

The rate is that of the linear layers of one transformer layer, at the shapes and in the precision of the step: bf16, or
fp32 on a CPU without instructions for bf16. torch's `FlopCounterMode` counts the matrix products of the step, with
those of attention. The share is the time that these products would take at the rate, divided by the time of the step.
The step consists of the forward pass with hidden states, backward pass, clipping and optimizer. It has no teacher and
no objective. One process measures rate and step in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from itrd_nlp.cli import parser, process

if TYPE_CHECKING:
    import torch

PRODUCTS_AT_ONCE = 200
STEPS_AT_ONCE = 20
"""On a GPU the products of one layer take a tenth of a millisecond, which is less than the start of a kernel costs. So
products and steps are started one after the other, and the GPU is waited for once."""
WARM_UP = 3


@dataclass
class MatmulShareArguments:
    """Options of this command."""

    shape: str = field(
        default="minilm",
        metadata={"help": "Size of the teacher.", "choices": ["minilm", "bert"]},
    )
    student_layers: int = field(default=3, metadata={"help": "Layers of the student."})
    batch_size: int = field(default=32, metadata={"help": "Windows of a step."})
    length: int = field(default=176, metadata={"help": "Length of all windows, in tokens."})
    rounds: int = field(default=7, metadata={"help": "Number of measurements of rate and step."})
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )


def linear_layers(
    args: MatmulShareArguments, where: torch.device, dtype: torch.dtype
) -> tuple[Callable[[], None], int]:
    """Return a function that multiplies as the linear layers of one transformer layer do, and its FLOP."""
    import torch

    from benchmarks.training import SHAPES

    tokens = args.batch_size * args.length
    _, width, _, between = SHAPES[args.shape]
    sizes = [(width, width)] * 4 + [(width, between), (between, width)]
    layers = [
        (
            torch.randn(tokens, inputs, dtype=dtype, device=where),
            torch.randn(outputs, inputs, dtype=dtype, device=where),
        )
        for inputs, outputs in sizes
    ]

    def products() -> None:
        for x, weight in layers:
            torch.nn.functional.linear(x, weight)

    return products, sum(2 * tokens * inputs * outputs for inputs, outputs in sizes)


def in_turns(
    products: Callable[[], None], step: Callable[[], None], rounds: int, *, on_gpu: bool
) -> list[tuple[float, float]]:
    """Measure the seconds of products and of a step in turns, after some of both to warm up.

    Args:
        products: starts the products of one layer.
        step: starts one training step.
        rounds: number of measurements of both.
        on_gpu: start several of them before the GPU is waited for.
    """
    for _ in range(WARM_UP):
        step()
        products()
    products_at_once, steps_at_once = (PRODUCTS_AT_ONCE, STEPS_AT_ONCE) if on_gpu else (1, 1)
    return [
        (_seconds(products, products_at_once), _seconds(step, steps_at_once)) for _ in range(rounds)
    ]


def _seconds(work: Callable[[], None], times: int) -> float:
    from benchmarks.training import wait_for_gpu

    wait_for_gpu()  # what was started before is not what is timed
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait_for_gpu()
    return (time.perf_counter() - began) / times


def main() -> None:
    (args,) = parser.parse([MatmulShareArguments], description=__doc__)
    import torch
    from rich.console import Console
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.training import device, random_models, training_dtype
    from benchmarks.windows import random_collator, random_windows
    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    _, student = random_models(args.shape, args.student_layers)
    # The counter does not see the products in fused attention. Eager attention has the same products.
    _, counted = random_models(args.shape, args.student_layers, attention="eager")
    windows = random_windows([args.length] * args.batch_size)
    batch = random_collator()(windows.to_list())
    optimizer = torch.optim.AdamW(student.parameters(), fused=True)
    where, dtype = device(), training_dtype()
    for model in (student, counted):
        model.to(where)
    batch = {name: value.to(where) for name, value in batch.items()}
    products, product_flops = linear_layers(args, where, dtype)

    def step() -> None:
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = student(**batch, output_hidden_states=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    with FlopCounterMode(display=False) as counter:
        counted(**batch, output_hidden_states=True).loss.backward()
    step_flops = counter.get_total_flops()
    measured = in_turns(products, step, args.rounds, on_gpu=where.type == "cuda")
    runs = [
        {
            "rate": product_flops / of_products,
            "seconds": of_step,
            "share": step_flops / product_flops * of_products / of_step,
        }
        for of_products, of_step in measured
    ]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    Console().print(
        f"{args.shape}, student of {args.student_layers} layers: a step of {step_flops / 1e9:.0f} GFLOP takes "
        f"{medians['seconds']:.3f} s, {100 * medians['share']:.0f} % of the {medians['rate'] / 1e9:.0f} GFLOP/s "
        "of its linear layers"
    )
    if args.output is not None:
        content = {"arguments": vars(args), "flops": step_flops, "medians": medians, "runs": runs}
        content |= {"dtype": str(dtype), "environment": environment()}
        write_json(Path(args.output), content)


if __name__ == "__main__":
    process.run(main)
