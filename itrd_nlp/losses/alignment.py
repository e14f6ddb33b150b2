"""The divergence between two Gram matrices, whose minimum is the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from itrd_nlp.losses._samples import (
    as_groups,
    over_groups,
    squared_gram_norm,
    statistics_dtype,
    unit_rows,
)


def alignment_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    mask: Tensor | None = None,
    centre: bool = True,
    per_group: bool = False,
) -> Tensor:
    """Measure how far the similarities between the student's samples are from the teacher's.

    ``G_s`` and ``G_t`` are the Gram matrices of the L2-normalised rows, as in algorithm 1 of the paper. The loss is the
    Cauchy-Schwarz divergence ``log2 ||G_s||² + log2 ||G_t||² - 2 log2 <G_s, G_t>`` of both matrices in bits
    (Principe, "Information Theoretic Learning", 2010, section 2.7). By the inequality of Cauchy and Schwarz it is at
    least 0, and it is 0 where the matrices are equal and nowhere else. The paper's mutual information loss has
    ``G_s * G_t`` in place of the inner product and no such minimum; see ``docs/method.md``.

    The loss does not change when a row is multiplied by a positive number or when all rows are rotated, as long as
    ``centre`` is false. It is computed in float32, or in float64 for float64 inputs, whatever the autocast.

    Args:
        student: features ``(n, d_s)``, or ``(g, n, d_s)`` for ``g`` groups with Gram matrices of their own. The loss is
            then the mean over the groups that have two samples.
        teacher: features ``(n, d_t)`` or ``(g, n, d_t)``. The widths may differ. The teacher gets no gradient.
        mask: ``(n,)`` or ``(g, n)``, bool or 0/1, true where a sample counts. The values in the other rows, even NaN,
            change neither the loss nor its gradient. Default: every sample counts.
        centre: subtract the mean of the samples from each feature first. The tokens of a transformer have a large part
            in common, without which their similarities would all be near 1. Default: true.
        per_group: return the loss of each group instead of their mean. A group with fewer than two samples has the
            loss 0.

    Returns:
        A scalar in bits, or ``(g,)`` with ``per_group``.

    Raises:
        UserError: the shapes or types do not fit.

    Example:
        >>> teacher = torch.randn(32, 16)
        >>> alignment_loss(teacher, teacher)
        tensor(0.)
    """
    student, teacher, valid = as_groups(student, teacher, mask, same_width=False)
    dtype = statistics_dtype(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        z_s, counts = _centred_unit_rows(student, valid, dtype, centre)
        z_t, _ = _centred_unit_rows(teacher, valid, dtype, centre)
        inner = _inner_product(z_s, z_t)
        known = ~(inner <= 0) & (counts > 1)  # NaN is known, so that it stays visible
        of_s, of_t, inner = (
            torch.where(known, x, 1).log2()
            for x in (squared_gram_norm(z_s), squared_gram_norm(z_t), inner)
        )
    return over_groups(of_s + of_t - 2 * inner, known.to(dtype), per_group=per_group)


def _centred_unit_rows(
    x: Tensor, valid: Tensor | None, dtype: torch.dtype, centre: bool
) -> tuple[Tensor, Tensor]:
    """Centre the features, scale the rows to length 1 and count them ``(g,)``. Rows that do not count become zeros."""
    if valid is None:
        valid = torch.ones((), dtype=torch.bool, device=x.device).expand(*x.shape[:-1], 1)
    count = valid.sum(dim=1, keepdim=True)
    x = torch.where(valid, x, 0).to(dtype)
    if centre:
        x = torch.where(valid, x - x.sum(dim=1, keepdim=True) / count.clamp(min=1), 0)
    z, counts = unit_rows(x)
    return z, counts.sum(dim=1)


def _inner_product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``<A A^T, B B^T> = ||A^T B||²`` of each group, computed with the smaller matrices."""
    if a.shape[1] < max(a.shape[2], b.shape[2]):
        return ((a @ a.mT) * (b @ b.mT)).sum((1, 2))
    return (a.mT @ b).square().sum((1, 2))
