"""The mutual information loss of ITRD (section 4.2, eqs. 7 to 9) for alpha = 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import (
    as_groups,
    count_samples,
    over_groups,
    squared_gram_norm,
    statistics_dtype,
    unit_rows,
)
from itrd_nlp.losses.projection import make_projection, project

BLOCK_SIZE = 512
"""Default number of rows of a block on a CPU. With 1,024 samples the symmetry still saves work."""

DEVICE_BLOCK_SIZE = 2048
"""Default number of rows of a block on other devices. A product of 512 rows is too small to fill a GPU."""


def mutual_information_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    mask: Tensor | None = None,
    log: bool = False,
    block_size: int | None = None,
    per_group: bool = False,
) -> Tensor:
    """Push the student's samples apart, the more so the less similar the teacher's samples are.

    The loss of algorithm 1 equals ``1/n² sum_ij cos²(s_i, s_j) (1 - cos²(t_i, t_j))``. It is at least 0, and it is 0
    for a student whose samples are at right angles, whatever the teacher is. A student that equals its teacher is not
    at a minimum. ``docs/method.md`` has the derivation, and `alignment_loss` is a loss whose minimum is the teacher.

    ``G_s`` and ``G_t`` are the Gram matrices of the L2-normalised rows. ``G_st = G_s * G_t`` is their elementwise
    product. ``G_s`` and ``G_st`` are divided by their traces. The loss is ``||G_s||² - ||G_st||²`` in Frobenius norms
    (algorithm 1). With ``log`` it is ``log2 ||G_s||² - log2 ||G_st||²`` (eq. 9). The form of eq. 9 is minus the mutual
    information of order 2 (eq. 7), without the teacher's entropy, which is constant. Neither form changes when a row
    is multiplied by a positive number or when all rows are rotated.

    The loss is computed in float32, or in float64 for float64 inputs, whatever the autocast. It makes only blocks of
    the n x n matrices. The blocks take O(block_size²) memory. The normalised copies and the gradient take O(n d).

    Args:
        student: features ``(n, d_s)``, or ``(g, n, d_s)`` for ``g`` groups. Each group has its own Gram matrices; a
            group may be one sequence or one layer pair. The loss is then the mean over the groups that have a sample.
        teacher: features ``(n, d_t)`` or ``(g, n, d_t)``. The widths may differ. The teacher gets no gradient.
        mask: ``(n,)`` or ``(g, n)``, bool or 0/1, true where a sample counts. The values in the other rows, even NaN,
            change neither the loss nor its gradient. A loss without samples is 0. Default: every sample counts.
        log: take the logarithms of eq. 9. The paper found that the loss works better without them. Default: false.
        block_size: rows of a block. It changes only speed and memory. Default: 512 on a CPU, 2,048 elsewhere.
        per_group: return the loss of each group instead of their mean. A group without a sample has the loss 0.

    Returns:
        A scalar, or ``(g,)`` with ``per_group``.

    Raises:
        UserError: ``block_size`` is below 1, or the shapes or types do not fit.

    Example:
        >>> teacher = torch.randn(32, 16)
        >>> student = torch.randn(32, 8, requires_grad=True)
        >>> mutual_information_loss(student, teacher).backward()
    """
    _check_block_size(block_size)
    if block_size is None:
        block_size = BLOCK_SIZE if student.device.type == "cpu" else DEVICE_BLOCK_SIZE
    student, teacher, valid = as_groups(student, teacher, mask, same_width=False)
    dtype = statistics_dtype(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        losses = _gram_losses(
            _unit_rows(student, valid, dtype), _unit_rows(teacher, valid, dtype), log, block_size
        )
    return over_groups(losses, count_samples(student, valid, dtype), per_group=per_group)


class MutualInformationLoss(nn.Module):
    """`mutual_information_loss` behind a projection of the student's features.

    Args:
        d_s: width of the student's features.
        d_t: width of the teacher's features.
        projection: a module that maps the student's features to the teacher's space, such as the layer of a
            `CorrelationLoss`. (The paper shares that layer if the widths differ.) It runs under the autocast of the
            caller. Default: a new linear layer if the widths differ, no projection if they are equal.
        log: take the logarithms of eq. 9. Default: false.
        block_size: rows of a block, see `mutual_information_loss`. Default: 512 on a CPU, 2,048 elsewhere.

    Raises:
        UserError: ``block_size`` is below 1, or a width is.

    Example:
        >>> loss = MutualInformationLoss(384, 768)
        >>> loss(torch.randn(32, 384), torch.randn(32, 768)).backward()
    """

    def __init__(
        self,
        d_s: int,
        d_t: int,
        *,
        projection: nn.Module | None = None,
        log: bool = False,
        block_size: int | None = None,
    ) -> None:
        super().__init__()
        _check_block_size(block_size)
        if projection is None:
            projection = nn.Identity() if d_s == d_t else make_projection(d_s, d_t)
        self.d_s = d_s
        self.projection = projection
        self.log = log
        self.block_size = block_size

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Project the student and compute the loss.

        Args:
            student: features ``(n, d_s)`` or ``(g, n, d_s)``.
            teacher: features ``(n, d_t)`` or ``(g, n, d_t)``. They get no gradient.
            mask: ``(n,)`` or ``(g, n)``, true where a sample counts. Default: every sample counts.

        Returns:
            A scalar.

        Raises:
            UserError: the shapes or types do not fit.
        """
        student = project(self.projection, student, mask, d_s=self.d_s)
        return mutual_information_loss(
            student, teacher, mask=mask, log=self.log, block_size=self.block_size
        )

    def extra_repr(self) -> str:
        return f"log={self.log}, block_size={self.block_size}"


def _check_block_size(block_size: int | None) -> None:
    if block_size is not None and block_size < 1:
        raise UserError(f"block_size is {block_size}; it must be at least 1.")


def _gram_losses(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], log: bool, block_size: int
) -> Tensor:
    """Return the loss ``(g,)`` of each group. Both arguments are results of `_unit_rows`."""
    (z_s, counts_s), (z_t, counts_t) = student, teacher
    # The trace of a Gram matrix of unit rows is the number of rows, so 1 / trace² is a constant.
    by_s = _inverse_square(counts_s.sum(1, dtype=z_s.dtype))
    by_st = _inverse_square((counts_s & counts_t).sum(1, dtype=z_s.dtype))
    if not log:
        return _gram_sum(z_s, z_t, by_s, by_st, block_size)
    potential_s = by_s * squared_gram_norm(z_s)
    potential_st = _gram_sum(z_s, z_t, torch.zeros_like(by_st), -by_st, block_size)
    return _log2(potential_s, by_s) - _log2(potential_st, by_st)


def _unit_rows(x: Tensor, valid: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scale the rows to length 1, and tell which rows ``(g, n)`` count. The other rows become zeros."""
    if valid is not None:
        x = torch.where(valid, x, 0)
    return unit_rows(x.to(dtype))


def _inverse_square(trace: Tensor) -> Tensor:
    """Return ``1 / trace²`` of each group, and 0 for an empty Gram matrix."""
    return torch.where(trace > 0, 1 / trace.clamp(min=1).square(), 0)


def _log2(potential: Tensor, scale: Tensor) -> Tensor:
    """Return log2 of the potential, and 0 for an empty Gram matrix, whose scale is 0."""
    return torch.where(scale > 0, potential, 1).log2()


class _GramSum(torch.autograd.Function):
    """Compute ``sum_ij K_ij² W_ij`` of each group, as ``(g,)``.

    ``K = Z_s Z_s^T``, ``L = Z_t Z_t^T`` and ``W = by_s - by_st L²``, where the square is elementwise. The matrices are
    made block by block, on and above the diagonal, because they are symmetric. The gradient ``4 (K * W) Z_s`` needs
    the same blocks. So the forward pass computes the gradient, too, and the backward pass only scales it. Every block
    is then made once, and autograd keeps one tensor of the size of ``Z_s`` between the passes.
    """

    @staticmethod
    def forward(
        ctx: Any, z_s: Tensor, z_t: Tensor, by_s: Tensor, by_st: Tensor, block_size: int
    ) -> Tensor:
        groups, n, _ = z_s.shape
        grad = torch.zeros_like(z_s) if ctx.needs_input_grad[0] else None
        total = z_s.new_zeros(groups)
        by_s, by_st = by_s[:, None, None], by_st[:, None, None]
        # Multiply several short groups at once, as many as fill one block.
        at_once = max(1, block_size**2 // max(1, min(n, block_size)) ** 2)
        for first in range(0, groups, at_once):
            group = slice(first, first + at_once)
            for i in range(0, n, block_size):
                rows = slice(i, i + block_size)
                for j in range(i, n, block_size):
                    columns = slice(j, j + block_size)
                    k = z_s[group, rows] @ z_s[group, columns].mT
                    w = z_t[group, rows] @ z_t[group, columns].mT
                    w.square_().mul_(-by_st[group]).add_(by_s[group]).mul_(k)
                    if grad is not None:
                        grad[group, rows].baddbmm_(w, z_s[group, columns], alpha=4)
                        if j > i:
                            grad[group, columns].baddbmm_(w.mT, z_s[group, rows], alpha=4)
                    total[group] += k.mul_(w).sum((1, 2)) * (2 if j > i else 1)
        if grad is not None:
            ctx.save_for_backward(grad)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None, None, None, None]:
        (grad,) = ctx.saved_tensors
        return grad * grad_total[:, None, None], None, None, None, None


_gram_sum: Callable[..., Tensor] = _GramSum.apply
