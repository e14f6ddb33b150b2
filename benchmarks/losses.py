"""Compare the correlation and mutual information losses of this package with the formulas written out.

    python -m benchmarks.losses [--samples 8192] [--features 768] [--rounds 3] [--sweep true] [--output FILE]

The formulas are those of algorithm 1 of the paper, with the normalised representations in its line 18. Both candidates
compute the sum of the two losses and its gradient, in fp32 and from the same inputs. Memory is the amount that the call
adds to the process at its peak, or to the memory on its GPU.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import median, ratio, take_turns
from itrd_nlp.cli import parser, process

CANDIDATES = ("ours", "formulas")
SWEEP = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)


@dataclass
class LossesArguments:
    """Options of this command."""

    samples: int = field(default=8192, metadata={"help": "Number of samples, n."})
    features: int = field(default=768, metadata={"help": "Number of features of both models, d."})
    repeats: int = field(
        default=3, metadata={"help": "Timed calls in a process, after one untimed call."}
    )
    rounds: int = field(default=3, metadata={"help": "Processes for each candidate."})
    sweep: bool = field(
        default=False,
        metadata={"help": "Also measure the losses of this package for n from 128 to 16,384."},
    )
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )
    worker: str | None = field(
        default=None,
        metadata={
            "help": "Measure only this candidate, in this process.",
            "choices": list(CANDIDATES),
        },
    )


def measure(args: LossesArguments, candidate: str) -> dict[str, float]:
    """Measure the seconds of a call, and the megabytes that it adds to the memory."""
    import torch
    from torch import Tensor

    from benchmarks.training import device, wait_for_gpu
    from itrd_nlp.losses import correlation_loss, mutual_information_loss

    def formulas(s: Tensor, t: Tensor) -> Tensor:
        z_s, z_t = ((z - z.mean(0)) / z.std(0) for z in (s, t))
        v = torch.einsum("bx,bx->x", z_s, z_t) / len(s)
        corr = (v - 1).square().pow(1.01).sum().log2()
        z_s, z_t = (torch.nn.functional.normalize(z, p=2) for z in (s, t))
        g_s, g_t = z_s @ z_s.T, z_t @ z_t.T
        g_st = g_s * g_t
        g_s, g_st = g_s / g_s.trace(), g_st / g_st.trace()
        return corr + (g_s.square() - g_st.square()).sum()

    def ours(s: Tensor, t: Tensor) -> Tensor:
        return correlation_loss(s, t) + mutual_information_loss(s, t)

    on_gpu = device().type == "cuda"
    torch.manual_seed(0)
    teacher = torch.randn(args.samples, args.features, device=device())
    student = (teacher + torch.randn_like(teacher)).requires_grad_()
    loss = {"ours": ours, "formulas": formulas}[candidate]

    def call() -> float:
        student.grad = None
        wait_for_gpu()
        started = time.perf_counter()
        loss(student, teacher).backward()
        wait_for_gpu()
        return time.perf_counter() - started

    small = student.detach()[:64].requires_grad_()
    loss(small, teacher[:64]).backward()  # loads and allocates everything that is needed only once
    if on_gpu:
        before = torch.cuda.memory_allocated() / 1e6
        torch.cuda.reset_peak_memory_stats()
    else:
        before = status_megabytes("VmRSS")
        _reset_peak()
    times = [call() for _ in range(args.repeats + 1)][1:]
    peak = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else status_megabytes("VmHWM")
    return {"seconds": statistics.median(times), "megabytes": max(peak - before, 1e-3)}


def status_megabytes(name: str) -> float:
    """Read a line of this process's status, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1000
    raise KeyError(name)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    (args,) = parser.parse([LossesArguments], description=__doc__)
    if args.worker is not None:
        print(json.dumps(measure(args, args.worker)))
        return
    from rich.console import Console
    from rich.table import Table

    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    workers = {name: [*sys.argv[1:], "--worker", name] for name in CANDIDATES}
    runs = take_turns("losses", workers, args.rounds)
    ratios = {
        name: ratio(runs["formulas"], runs["ours"], name) for name in ("seconds", "megabytes")
    }
    table = Table(title=f"{args.samples} x {args.features}, forward and backward")
    for column in ("", *CANDIDATES, "formulas / ours"):
        table.add_column(column, justify="right")
    for name, found in ratios.items():
        values = [f"{median(runs[candidate], name):.3g}" for candidate in CANDIDATES]
        table.add_row(name, *values, f"{found['median']:.1f}")
    Console().print(table)
    sweep = {}
    if args.sweep:
        sizes = {str(n): [*sys.argv[1:], "--worker", "ours", "--samples", str(n)] for n in SWEEP}
        sweep = take_turns("losses", sizes, 1)
        for n, (run,) in sweep.items():
            Console().print(f"n = {n}: {run['seconds']:.4f} s, {run['megabytes']:.0f} MB")
    if args.output is not None:
        content = {"arguments": vars(args), "ratios": ratios, "runs": runs, "sweep": sweep}
        write_json(Path(args.output), content | {"environment": environment()})


if __name__ == "__main__":
    process.run(main)
