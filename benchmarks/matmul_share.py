"""How near a student's training step comes to the rate of the machine's own matrix products.

    python benchmarks/matmul_share.py [--shape minilm|bert] [--student_layers 3] [--output FILE]

The rate is that of the linear layers of one transformer layer alone, at the step's own shapes and in its precision
(bf16, or fp32 on a CPU without instructions for bf16). The share is the time that the matrix products of the step
(counted by torch's `FlopCounterMode`, attention included) would take at this rate, over the time that the step takes:
forward with hidden states, backward, clipping and optimizer, without teacher and objective. Both are measured in turn,
in one process.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli import parser, process


@dataclass
class MatmulShareArguments:
    """What is measured."""

    shape: str = field(
        default="minilm",
        metadata={"help": "Layers and widths of the teacher.", "choices": ["minilm", "bert"]},
    )
    student_layers: int = field(default=3, metadata={"help": "Layers of the student."})
    batch_size: int = field(default=32, metadata={"help": "Windows a step."})
    length: int = field(default=176, metadata={"help": "Length of all windows."})
    rounds: int = field(default=7, metadata={"help": "Times each is measured, in turn."})
    output: str | None = field(default=None, metadata={"help": "Write the figures here, as JSON."})


def main() -> None:
    (args,) = parser.parse([MatmulShareArguments], description=__doc__)
    import torch
    from rich.console import Console
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.training import SHAPES, device, random_models, training_dtype, wait_for_gpu
    from benchmarks.windows import random_collator, random_windows
    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    _, student = random_models(args.shape, args.student_layers)
    # The counter does not see into fused attention, whose products are the same.
    _, counted = random_models(args.shape, args.student_layers, attention="eager")
    windows = random_windows([args.length] * args.batch_size)
    batch = random_collator()(windows.to_list())
    optimizer = torch.optim.AdamW(student.parameters(), fused=True)
    where, dtype = device(), training_dtype()
    for model in (student, counted):
        model.to(where)
    batch = {name: value.to(where) for name, value in batch.items()}

    def step() -> None:
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = student(**batch, output_hidden_states=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

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

    def seconds(work: Callable[[], None]) -> float:
        began = time.perf_counter()
        work()
        wait_for_gpu()
        return time.perf_counter() - began

    with FlopCounterMode(display=False) as counter:
        counted(**batch, output_hidden_states=True).loss.backward()
    step_flops = counter.get_total_flops()
    product_flops = sum(2 * tokens * inputs * outputs for inputs, outputs in sizes)
    for work in (step, products):
        work()
    runs = []
    for _ in range(args.rounds):
        rate = product_flops / seconds(products)
        took = seconds(step)
        runs.append({"rate": rate, "seconds": took, "share": step_flops / rate / took})
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    Console().print(
        f"{args.shape}, student of {args.student_layers} layers: a step of {step_flops / 1e9:.0f} GFLOP takes "
        f"{medians['seconds']:.3f} s, {100 * medians['share']:.0f} % of the {medians['rate'] / 1e9:.0f} GFLOP/s "
        "of its linear layers alone"
    )
    if args.output is not None:
        content = {"arguments": vars(args), "flops": step_flops, "medians": medians, "runs": runs}
        content |= {"dtype": str(dtype), "environment": environment()}
        write_json(Path(args.output), content)


if __name__ == "__main__":
    # In place of this folder, where profile.py would be taken for the standard library's.
    sys.path[0] = str(Path(__file__).parents[1])
    process.run(main)
