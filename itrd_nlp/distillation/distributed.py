"""What the losses exchange between processes: sums of statistics, or the samples themselves.

Without a process group, or with one of a single process, nothing is exchanged. The functions are collectives: every
process must call them equally often and in the same order, one without a valid sample too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def world_size() -> int:
    """The number of processes that train together, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over all processes, for the ``reduce`` argument of ``correlation_loss``.

    The gradient is meant for a loss that every process computes from the same sums, and whose gradients are averaged
    over the processes afterwards, as DDP, FSDP and DeepSpeed do: it comes without an exchange of its own.

    Args:
        tensor: of the same shape and type on every process. ``(pairs, 2d + 1)`` and ``(3, pairs, d)`` numbers in the
            correlation loss.
    """
    return tensor if world_size() == 1 else _sum_over_ranks(tensor)


def gather_samples(samples: Tensor, mask: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The samples of all processes, of which those of this one keep their gradient.

    Every process sends ``rows`` rows, so that nobody has to ask for the others' shapes first: masked rows fill up what
    is missing, rows beyond are left out.

    Args:
        samples: ``(n, d)``; ``d`` and the type are the same on every process, ``n`` need not be.
        mask: ``(n,)``, true where a sample counts.
        rows: rows a process.

    Returns:
        ``(world size * rows, d)`` and ``(world size * rows,)``, in the order of the ranks; what came in, where there
        is one process. The gradient is as in `sum_over_ranks`.
    """
    if world_size() == 1:
        return samples, mask
    flag = mask[:rows, None].bool()
    # The mask travels as one more feature: one exchange in place of two.
    own = torch.cat([torch.where(flag, samples[:rows], 0), flag.to(samples.dtype)], dim=1)
    gathered = _gather_rows(F.pad(own, (0, 0, 0, rows - len(own))))
    return gathered[:, :-1], gathered[:, -1] > 0


def gather_pairs(
    student: Tensor, teacher: Tensor, mask: Tensor, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`gather_samples` of all layer pairs in one exchange.

    Args:
        student: ``(pairs, n, d_s)``.
        teacher: ``(pairs, n, d_t)``.
        mask: ``(n,)``, the same for all pairs.
        rows: rows a process.

    Returns:
        ``(pairs, N, d_s)``, ``(pairs, N, d_t)`` and ``(N,)``, where N is world size * rows.
    """
    if world_size() == 1:
        return student, teacher, mask
    pairs, _, d_s = student.shape
    both = torch.cat([student, teacher], dim=-1)
    samples, valid = gather_samples(both.transpose(0, 1).flatten(1), mask, rows)
    samples = samples.unflatten(1, (pairs, -1)).transpose(0, 1)
    return samples[..., :d_s], samples[..., d_s:], valid


# Why these gradients are local ones times the number of processes. Let L(S) be the loss and S = sum_r s_r(w) what
# is exchanged. Process r knows dL/dS, which is the same everywhere, and gives dL/dS * ds_r/dw. The gradient of L is the
# sum of these, but what comes after is their mean: each must be world_size times larger. An all-reduce of dL/dS in the
# backward pass, which torch.distributed.nn does, sums world_size equal tensors to the same end.


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * dist.get_world_size()


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        ctx.rows = len(own)
        gathered = own.new_empty((dist.get_world_size() * len(own), *own.shape[1:]))
        dist.all_gather(list(gathered.chunk(dist.get_world_size())), own.contiguous())
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        first = dist.get_rank() * ctx.rows
        return grad[first : first + ctx.rows] * dist.get_world_size()


_sum_over_ranks: Callable[[Tensor], Tensor] = _SumOverRanks.apply
_gather_rows: Callable[[Tensor], Tensor] = _GatherRows.apply
