"""The correlation loss of ITRD (section 4.1, eq. 6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import as_groups, count_samples, over_groups, statistics_dtype
from itrd_nlp.losses.projection import make_projection, project

Reduce = Callable[[Tensor], Tensor]

LOG_FLOOR = 1e-30
"""Smallest argument of the logarithm in eq. 6: a perfect match gives -99.7 and no gradient.

In float32 the smallest |v - 1| above zero is 6e-8. So for alpha up to 2 the floor is below every
sum that is not zero, and changes nothing but the perfect match. It is a normal float32 number.
"""

STD_FLOOR = 1e-9
"""A feature with a smaller standard deviation is constant.

The product of two variances of this size is still a normal float32 number.
"""


def correlation_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    alpha: float = 1.01,
    mask: Tensor | None = None,
    unbiased: bool = False,
    reduce: Reduce | None = None,
    per_group: bool = False,
) -> Tensor:
    """How far each feature of the student is from perfect correlation with the teacher's.

    ``log2 sum_i |v_i - 1|^(2 alpha)``, where ``v_i`` is the correlation over the samples of feature
    ``i`` of the student with feature ``i`` of the teacher (section 4.1, eq. 6). The value is
    between log2(`LOG_FLOOR`) = -99.7, the perfect match, and ``log2(d) + 2 alpha``; uncorrelated
    features give ``log2(d)``. It does not change when a feature is shifted or multiplied by a
    positive number.

    Statistics are taken in float32 (float64 for float64 inputs). A feature that does not vary, in
    the student or in the teacher, counts as ``v_i = 0`` and gets no gradient; so does every feature
    of a single sample.

    Args:
        student: Features ``(n, d)``, or ``(g, n, d)`` for ``g`` groups with statistics of their own
            (e.g. one sequence or one layer pair each). Then the loss is the mean over the groups
            that have a sample.
        teacher: Features of the same shape. They get no gradient.
        alpha: Exponent, above 0. The paper takes 1.01 for the same architecture and 1.50 for
            different ones.
        mask: ``(n,)`` or ``(g, n)``, bool or 0/1, true where a sample counts. What the other rows
            hold, NaN included, changes neither value nor gradient. The loss of no samples is 0.
        unbiased: Takes the standard deviations with ``n - 1`` and the mean of the products with
            ``n``, as the official code and algorithm 1 do (its line 18 means the normalised
            representations). A perfect match then gives ``v_i = (n - 1) / n``.
        reduce: Sums a tensor over all processes, differentiably. With it the statistics are those
            of the global batch; only per-feature sums are exchanged, in two calls for all groups
            together. Groups must mean the same on every process (layer pairs do, sequences do
            not), and every process must call the loss, also one without samples.
        per_group: Return the loss of each group, 0 where it has no sample, not their mean.

    Returns:
        A scalar; ``(g,)`` with ``per_group``.

    Raises:
        UserError: ``alpha`` is not a positive number, or shapes or types do not fit.

    Example:
        >>> teacher = torch.randn(32, 8)
        >>> student = torch.randn(32, 8, requires_grad=True)
        >>> correlation_loss(student, teacher, alpha=1.5).backward()
    """
    _check_alpha(alpha)
    v, counts = _correlations(student, teacher, mask, unbiased, reduce)
    distance = (v - 1).abs()
    # The gradient of x^p at 0 is infinite for p < 1, so zeros bypass the power.
    off = distance != 0  # true for NaN
    powers = torch.where(off, torch.where(off, distance, 1).pow(2 * alpha), 0)
    losses = powers.sum(-1).clamp(min=LOG_FLOOR).log2()
    return over_groups(losses, counts, per_group=per_group)


def feature_correlations(
    student: Tensor,
    teacher: Tensor,
    *,
    mask: Tensor | None = None,
    unbiased: bool = False,
    reduce: Reduce | None = None,
) -> Tensor:
    """The correlation ``v_i`` of each feature of the student with the same feature of the teacher.

    This is the diagonal of the cross-correlation matrix of section 4.1. Arguments as in
    `correlation_loss`.

    Returns:
        ``(d,)`` for inputs ``(n, d)``, ``(g, d)`` for inputs ``(g, n, d)``; between -1 and 1, 0 for
        constant features.
    """
    v, _ = _correlations(student, teacher, mask, unbiased, reduce)
    return v if student.ndim == 3 else v[0]


def mean_correlation(loss: float, features: int, *, alpha: float = 1.01) -> float:
    """The correlation that every feature has where a correlation loss has this value, for people to read.

    It inverts ``loss = log2(d |v - 1|^(2 alpha))``, so it is one minus a power mean of the distances.

    Args:
        loss: Value of `correlation_loss`.
        features: ``d``, the width of the teacher.
        alpha: As in the loss.

    Example:
        >>> round(mean_correlation(0.0, 64, alpha=1.0), 3)
        0.875
    """
    return float(1 - (2**loss / features) ** (1 / (2 * alpha)))


class CorrelationLoss(nn.Module):
    """`correlation_loss` behind a linear layer from the student's to the teacher's width.

    The layer runs under the ambient autocast, the statistics in float32.

    Args:
        d_s: Width of the student's features.
        d_t: Width of the teacher's features.
        alpha: See `correlation_loss`.
        unbiased: See `correlation_loss`.
        init: How the layer starts, see `make_projection`.

    Example:
        >>> loss = CorrelationLoss(384, 768)
        >>> loss(torch.randn(32, 384), torch.randn(32, 768)).backward()
    """

    def __init__(
        self, d_s: int, d_t: int, *, alpha: float = 1.01, unbiased: bool = False, init: str = "auto"
    ) -> None:
        super().__init__()
        _check_alpha(alpha)
        self.d_s = d_s
        self.alpha = alpha
        self.unbiased = unbiased
        self.projection = make_projection(d_s, d_t, init=init)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        mask: Tensor | None = None,
        *,
        reduce: Reduce | None = None,
    ) -> Tensor:
        """The loss of ``student (n, d_s)`` and ``teacher (n, d_t)``, or the same with groups."""
        student = project(self.projection, student, mask, d_s=self.d_s)
        return correlation_loss(
            student, teacher, alpha=self.alpha, mask=mask, unbiased=self.unbiased, reduce=reduce
        )

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, unbiased={self.unbiased}"


def _check_alpha(alpha: float) -> None:
    if not (alpha > 0 and math.isfinite(alpha)):
        raise UserError(
            f"alpha is {alpha}; the exponent of the correlation loss must be a number above 0."
        )


def _correlations(
    student: Tensor, teacher: Tensor, mask: Tensor | None, unbiased: bool, reduce: Reduce | None
) -> tuple[Tensor, Tensor]:
    """The correlations ``(g, d)`` and the numbers of samples ``(g,)``."""
    student, teacher, valid = as_groups(student, teacher, mask, same_width=True)
    dtype = statistics_dtype(student, teacher)

    # No gradient here: the moments about the mean do not change to first order when the mean does,
    # since the centred samples (of all processes) sum to zero.
    with torch.no_grad():
        count = count_samples(student, valid, dtype).unsqueeze(-1)
        sums = torch.cat([_sum(student, valid, dtype), _sum(teacher, valid, dtype), count], dim=-1)
        if reduce is not None:
            sums = reduce(sums)
        count = sums[:, -1:]
        mean_s, mean_t = (sums[:, :-1] / count.clamp(min=1)).chunk(2, dim=-1)

    moments = _centred_moments(student, teacher, valid, mean_s, mean_t)
    if reduce is not None:
        moments = reduce(moments)

    n_std = (count - 1 if unbiased else count).clamp(min=1)
    var_s, var_t = moments[0] / n_std, moments[1] / n_std
    covariance = moments[2] / count.clamp(min=1)
    varies = _varies(var_s, mean_s) & _varies(var_t, mean_t)
    # One root of the product, not two roots: identical inputs then give exactly 1.
    v = torch.where(varies, covariance / torch.where(varies, var_s * var_t, 1).sqrt(), 0)
    return v, count.squeeze(-1)


def _varies(variance: Tensor, mean: Tensor) -> Tensor:
    """Whether a feature's standard deviation is more than the rounding of its own mean.

    NaN varies: a loss that is NaN is found, a feature that is quietly left out is not.
    """
    rounding = 16 * torch.finfo(mean.dtype).eps * mean
    return ~(variance.detach() <= rounding.square() + STD_FLOOR**2)


def _row_blocks(x: Tensor) -> Iterator[slice]:
    """Slices of the rows of ``x (g, n, d)`` that bound the size of temporaries.

    On a CPU they stay in the cache, which halves the time; elsewhere few large kernels are better.
    """
    groups, n, d = x.shape
    elements = 2**18 if x.device.type == "cpu" else 2**24
    rows = max(1, elements // max(1, groups * d))
    for start in range(0, n, rows):
        yield slice(start, start + rows)


def _centred(
    x: Tensor, valid: Tensor | None, mean: Tensor | None, rows: slice, dtype: torch.dtype
) -> Tensor:
    """A new tensor with ``x - mean`` of some rows, 0 in rows that are not valid."""
    centred = x[:, rows].to(dtype, copy=True)
    if mean is not None:
        centred.sub_(mean.unsqueeze(1))
    return centred if valid is None else torch.where(valid[:, rows], centred, 0)


def _sum(x: Tensor, valid: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The sum over the valid rows of ``x (g, n, d)``, as ``(g, d)``."""
    total = x.new_zeros((x.shape[0], x.shape[2]), dtype=dtype)
    for rows in _row_blocks(x):
        total += _centred(x, valid, None, rows, dtype).sum(1)
    return total


class _CentredMoments(torch.autograd.Function):
    """Sums over the valid samples of s², t² and s t, s and t being centred, as ``(3, g, d)``.

    A function of its own because it keeps only references to its inputs: plain autograd keeps
    centred float32 copies of both, and takes 1.4 times as long for 4096 x 384 in bfloat16 on a CPU.
    The gradient with respect to the student is a per-feature combination of the centred features,
    computed from the inputs again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        valid: Tensor | None,
        mean_s: Tensor,
        mean_t: Tensor,
    ) -> Tensor:
        moments = mean_s.new_zeros((3, student.shape[0], student.shape[2]))
        for rows in _row_blocks(student):
            s = _centred(student, valid, mean_s, rows, mean_s.dtype)
            t = _centred(teacher, valid, mean_t, rows, mean_t.dtype)
            moments[2] += (s * t).sum(1)
            moments[0] += s.square_().sum(1)
            moments[1] += t.square_().sum(1)
        ctx.save_for_backward(student)
        # Not by save_for_backward, which refuses what a teacher under torch.inference_mode gives.
        ctx.constants = (teacher, valid, mean_s, mean_t)
        return moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (student,) = ctx.saved_tensors
        teacher, valid, mean_s, mean_t = ctx.constants
        by_s, by_t = 2 * grad[0].unsqueeze(1), grad[2].unsqueeze(1)
        grad_student = torch.empty_like(student)
        for rows in _row_blocks(student):
            s = _centred(student, None, mean_s, rows, mean_s.dtype)
            t = _centred(teacher, None, mean_t, rows, mean_t.dtype)
            block = s.mul_(by_s).addcmul_(t, by_t)
            grad_student[:, rows] = (
                block if valid is None else torch.where(valid[:, rows], block, 0)
            )
        return grad_student, None, None, None, None


_centred_moments: Callable[..., Tensor] = _CentredMoments.apply
