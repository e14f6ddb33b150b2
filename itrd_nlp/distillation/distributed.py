"""The exchange of statistics and samples between processes, which some losses need.

The functions are collectives. Every process must call them equally often and in the same order, even a process without
a valid sample. Without a process group, or with a group of one process, they exchange nothing.
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
    """Return the number of processes that train together. It is 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum ``tensor`` over all processes. This is the ``reduce`` argument of `correlation_loss`.

    The gradient assumes two things. Every process computes the same loss from the sums. DDP, FSDP or DeepSpeed then
    averages the gradients over the processes. The backward pass needs no further exchange.

    Args:
        tensor: a tensor of the same shape and dtype on every process. The correlation loss sums ``(pairs, 2d + 1)`` and
            ``(3, pairs, d)`` numbers.

    Returns:
        The sum, of the same shape and dtype.
    """
    return tensor if world_size() == 1 else _sum_over_ranks(tensor)


def largest_over_ranks(number: int, device: torch.device) -> int:
    """Return the largest number that a process has.

    Args:
        number: of this process.
        device: the one on which the processes exchange tensors.
    """
    if world_size() == 1:
        return number
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


def gather_samples(samples: Tensor, mask: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Gather the samples of all processes. Only the samples of this process keep their gradient.

    Every process sends ``rows`` rows, so no process needs to know the shapes of the others. Masked rows fill the
    missing ones. Rows beyond ``rows`` are left out. The gradient makes the same assumptions as in `sum_over_ranks`.

    Args:
        samples: samples ``(n, d)``. ``d`` and the dtype are the same on every process; ``n`` may differ.
        mask: ``(n,)``, bool or 0/1, true where a sample counts.
        rows: number of rows that each process sends.

    Returns:
        Samples ``(world size * rows, d)`` and their mask ``(world size * rows,)``, in the order of the ranks. A single
        process gets its own samples and mask back.
    """
    if world_size() == 1:
        return samples, mask
    flag = mask[:rows, None].bool()
    # The mask is sent as one more feature, so one exchange is enough.
    own = torch.cat([torch.where(flag, samples[:rows], 0), flag.to(samples.dtype)], dim=1)
    gathered = _gather_rows(F.pad(own, (0, 0, 0, rows - len(own))))
    return gathered[:, :-1], gathered[:, -1] > 0


def gather_pairs(
    student: Tensor, teacher: Tensor, mask: Tensor, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gather the samples of all layer pairs in one exchange. See `gather_samples`.

    Args:
        student: the student's samples ``(pairs, n, d_s)``.
        teacher: the teacher's samples ``(pairs, n, d_t)``.
        mask: ``(n,)``, bool or 0/1, true where a sample counts. It is the same for all pairs.
        rows: number of rows that each process sends.

    Returns:
        The student's samples ``(pairs, N, d_s)``, the teacher's samples ``(pairs, N, d_t)``, and their mask ``(N,)``.
        ``N`` is ``world size * rows``; for a single process it is ``n``.
    """
    if world_size() == 1:
        return student, teacher, mask
    pairs, _, d_s = student.shape
    both = torch.cat([student, teacher], dim=-1)
    samples, valid = gather_samples(both.transpose(0, 1).flatten(1), mask, rows)
    samples = torch.unflatten(samples, 1, (pairs, -1)).transpose(0, 1)
    return samples[..., :d_s], samples[..., d_s:], valid


# These gradients are the local gradients times the number of processes, for the following reason. Let L(S) be the loss,
# and S = sum_r s_r(w) the exchanged sum. Every process knows dL/dS, and process r contributes dL/dS * ds_r/dw. The
# gradient of L is the sum of the contributions. The trainer takes their mean afterwards, so each contribution must be
# world_size times larger. torch.distributed.nn gets the same result by an all-reduce of dL/dS in the backward pass,
# which sums world_size equal tensors.


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
