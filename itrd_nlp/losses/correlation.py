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
"""Smallest argument of the logarithm in eq. 6. A perfect match gives -99.7 and no gradient.

In float32 the smallest |v - 1| above zero is 6e-8. So for alpha up to 2 the floor is below every
sum that is not zero. It changes only the perfect match. It is a normal float32 number.
"""

STD_FLOOR = 1e-9
"""A feature with a smaller standard deviation counts as constant.

The product of two variances of this size is still a normal float32 number.
"""


def correlation_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    alpha: float = 1.01,
    mask: Tensor | None = None,
    unbiased: bool = False,
    log: bool = True,
    reduce: Reduce | None = None,
    per_group: bool = False,
) -> Tensor:
    """Measure how far the student's features are from perfect correlation with the teacher's.

    The loss is ``log2 sum_i |v_i - 1|^(2 alpha)`` (section 4.1, eq. 6). ``v_i`` is the correlation between feature
    ``i`` of the student and feature ``i`` of the teacher over the samples. A perfect match gives the minimum,
    log2(`LOG_FLOOR`) = -99.7. Uncorrelated features give ``log2(d)``. The maximum is ``log2(d) + 2 alpha``. Shifting
    a feature or multiplying it by a positive number does not change the loss.

    The statistics are computed in float32, or in float64 for float64 inputs. A feature that is constant in the student
    or in the teacher counts as ``v_i = 0`` and gets no gradient. With a single sample every feature is constant.

    Args:
        student: features ``(n, d)``, or ``(g, n, d)`` for ``g`` groups. Each group has its own statistics; a group
            may be one sequence or one layer pair. The loss is then the mean over the groups that have a sample.
        teacher: features of the same shape. They get no gradient.
        alpha: exponent, above 0. The paper uses 1.01 if both models have the same architecture and 1.50 if they do
            not. Default: 1.01.
        mask: ``(n,)`` or ``(g, n)``, bool or 0/1, true where a sample counts. The values in the other rows, even NaN,
            change neither the loss nor its gradient. A loss without samples is 0. Default: every sample counts.
        unbiased: divide the variances by ``n - 1`` and the products by ``n``, as the official code and algorithm 1 do.
            (Line 18 of the algorithm means the normalised representations.) A perfect match then gives
            ``v_i = (n - 1) / n``. Default: divide both by ``n``.
        log: take the logarithm of eq. 6. Without it the loss is the sum, from 0 for a perfect match. Default: true.
        reduce: a differentiable function that sums a tensor over all processes. With it the statistics are those of
            the global batch. The loss calls it twice, for all groups together, and exchanges only per-feature sums.
            A group must mean the same on every process: layer pairs do, sequences do not. Every process must call the
            loss, even a process without samples. Default: the statistics are those of this process.
        per_group: return the loss of each group instead of their mean. A group without a sample has the loss 0.

    Returns:
        A scalar, or ``(g,)`` with ``per_group``.

    Raises:
        UserError: ``alpha`` is not a positive number, or the shapes or types do not fit.

    Example:
        >>> teacher = torch.randn(32, 8)
        >>> student = torch.randn(32, 8, requires_grad=True)
        >>> correlation_loss(student, teacher, alpha=1.5).backward()
    """
    _check_alpha(alpha)
    v, counts = _correlations(student, teacher, mask, unbiased, reduce)
    distance = (v - 1).abs()
    # The gradient of x^p at 0 is infinite for p < 1, so zeros bypass the power.
    off = distance != 0  # NaN is off, too, so that it stays visible
    powers = torch.where(off, torch.where(off, distance, 1).pow(2 * alpha), 0)
    losses = powers.sum(-1)
    if log:
        losses = losses.clamp(min=LOG_FLOOR).log2()
    return over_groups(losses, counts, per_group=per_group)


def feature_correlations(
    student: Tensor,
    teacher: Tensor,
    *,
    mask: Tensor | None = None,
    unbiased: bool = False,
    reduce: Reduce | None = None,
) -> Tensor:
    """Return the correlation ``v_i`` between each feature of the student and the same feature of the teacher.

    The result is the diagonal of the cross-correlation matrix of section 4.1.

    Args:
        student: features ``(n, d)`` or ``(g, n, d)``.
        teacher: features of the same shape. They get no gradient.
        mask: ``(n,)`` or ``(g, n)``, true where a sample counts. Default: every sample counts.
        unbiased: divide the variances by ``n - 1``, see `correlation_loss`.
        reduce: a function that sums a tensor over all processes, see `correlation_loss`.

    Returns:
        ``(d,)`` for inputs ``(n, d)`` and ``(g, d)`` for inputs ``(g, n, d)``. The values are between -1 and 1. A
        constant feature has the value 0.

    Raises:
        UserError: the shapes or types do not fit.
    """
    v, _ = _correlations(student, teacher, mask, unbiased, reduce)
    return v if student.ndim == 3 else v[0]


def mean_correlation(loss: float, features: int, *, alpha: float = 1.01, log: bool = True) -> float:
    """Translate a correlation loss into a correlation that people can read.

    If every feature had the same correlation ``v``, the loss would be ``log2(d |v - 1|^(2 alpha))``. This function
    solves that equation for ``v``. So the result is one minus a power mean of the distances ``|v_i - 1|``.

    Args:
        loss: value of `correlation_loss`.
        features: ``d``, the width of the teacher.
        alpha: exponent with which the loss was computed. Default: 1.01.
        log: whether the loss was computed with the logarithm. Default: true.

    Returns:
        The correlation, 1 for a perfect match.

    Example:
        >>> round(mean_correlation(0.0, 64, alpha=1.0), 3)
        0.875
    """
    total = 2**loss if log else loss
    return float(1 - (total / features) ** (1 / (2 * alpha)))


class CorrelationLoss(nn.Module):
    """`correlation_loss` behind a linear layer from the student's to the teacher's width.

    The layer runs under the autocast of the caller. The statistics are computed in float32.

    Args:
        d_s: width of the student's features.
        d_t: width of the teacher's features.
        alpha: exponent of the loss, above 0. Default: 1.01.
        unbiased: divide the variances by ``n - 1``, see `correlation_loss`.
        log: take the logarithm of eq. 6, see `correlation_loss`. Default: true.
        init: initial weights of the layer, see `make_projection`. Default: ``"auto"``.

    Raises:
        UserError: ``alpha`` is not a positive number, or `make_projection` refuses the widths.

    Example:
        >>> loss = CorrelationLoss(384, 768)
        >>> loss(torch.randn(32, 384), torch.randn(32, 768)).backward()
    """

    def __init__(
        self,
        d_s: int,
        d_t: int,
        *,
        alpha: float = 1.01,
        unbiased: bool = False,
        log: bool = True,
        init: str = "auto",
    ) -> None:
        super().__init__()
        _check_alpha(alpha)
        self.d_s = d_s
        self.alpha = alpha
        self.unbiased = unbiased
        self.log = log
        self.projection = make_projection(d_s, d_t, init=init)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        mask: Tensor | None = None,
        *,
        reduce: Reduce | None = None,
    ) -> Tensor:
        """Project the student and compute the loss.

        Args:
            student: features ``(n, d_s)`` or ``(g, n, d_s)``.
            teacher: features ``(n, d_t)`` or ``(g, n, d_t)``. They get no gradient.
            mask: ``(n,)`` or ``(g, n)``, true where a sample counts. Default: every sample counts.
            reduce: a function that sums a tensor over all processes, see `correlation_loss`.

        Returns:
            A scalar.

        Raises:
            UserError: the shapes or types do not fit.
        """
        student = project(self.projection, student, mask, d_s=self.d_s)
        return correlation_loss(
            student,
            teacher,
            alpha=self.alpha,
            mask=mask,
            unbiased=self.unbiased,
            log=self.log,
            reduce=reduce,
        )

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, unbiased={self.unbiased}, log={self.log}"


def _check_alpha(alpha: float) -> None:
    if not (alpha > 0 and math.isfinite(alpha)):
        raise UserError(
            f"alpha is {alpha}; the exponent of the correlation loss must be a number above 0."
        )


def _correlations(
    student: Tensor, teacher: Tensor, mask: Tensor | None, unbiased: bool, reduce: Reduce | None
) -> tuple[Tensor, Tensor]:
    """Return the correlations ``(g, d)`` and the numbers of samples ``(g,)``."""
    student, teacher, valid = as_groups(student, teacher, mask, same_width=True)
    dtype = statistics_dtype(student, teacher)

    # The means need no gradient. The centred samples of all processes sum to zero, so the moments
    # do not change to first order when the mean does.
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
    # One root of the product instead of two roots makes identical inputs give exactly 1.
    v = torch.where(varies, covariance / torch.where(varies, var_s * var_t, 1).sqrt(), 0)
    return v, count.squeeze(-1)


def _varies(variance: Tensor, mean: Tensor) -> Tensor:
    """Tell whether a feature's standard deviation exceeds the rounding error of its mean.

    NaN counts as varying. The loss then becomes NaN, and the user sees the fault.
    """
    rounding = 16 * torch.finfo(mean.dtype).eps * mean
    return ~(variance.detach() <= rounding.square() + STD_FLOOR**2)


def _row_blocks(x: Tensor) -> Iterator[slice]:
    """Yield slices of the rows of ``x (g, n, d)`` that bound the size of temporaries.

    On a CPU the blocks fit into the cache, which halves the time. On a GPU few large kernels are faster.
    """
    groups, n, d = x.shape
    elements = 2**16 if x.device.type == "cpu" else 2**24
    rows = max(1, elements // max(1, groups * d))
    for start in range(0, n, rows):
        yield slice(start, start + rows)


def _centred(
    x: Tensor, valid: Tensor | None, mean: Tensor | None, rows: slice, dtype: torch.dtype
) -> Tensor:
    """Return a new tensor with ``x - mean`` of some rows, and with 0 in rows that are not valid."""
    centred = x[:, rows].to(dtype, copy=True)
    if mean is not None:
        centred.sub_(mean.unsqueeze(1))
    return centred if valid is None else torch.where(valid[:, rows], centred, 0)


def _sum(x: Tensor, valid: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Sum the valid rows of ``x (g, n, d)``, as ``(g, d)``."""
    total = x.new_zeros((x.shape[0], x.shape[2]), dtype=dtype)
    for rows in _row_blocks(x):
        total += _centred(x, valid, None, rows, dtype).sum(1)
    return total


class _CentredMoments(torch.autograd.Function):
    """Sum s², t² and s t over the valid samples, as ``(3, g, d)``. s and t are the centred features.

    This function keeps only references to its inputs. Plain autograd would keep centred float32 copies of both models'
    features, and would take 1.4 times as long for 4096 x 384 in bfloat16 on a CPU. The student's gradient combines the
    centred features, feature by feature. The backward pass computes the centred features from the inputs again.
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
        # save_for_backward would refuse the tensors of a teacher that ran under torch.inference_mode.
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
