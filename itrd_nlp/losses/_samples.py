"""Helpers that the losses on features share: shape checks, the mask and the mean over groups."""

from __future__ import annotations

import torch
from torch import Tensor

from itrd_nlp.errors import UserError

NORM_FLOOR = 1e-12
"""A row with a smaller L2 norm counts as a row of zeros."""


def shape(x: Tensor) -> str:
    """Return the shape of ``x`` as error messages show it, such as ``(32, 384)``."""
    return str(tuple(x.shape))


def as_groups(
    student: Tensor, teacher: Tensor, mask: Tensor | None, *, same_width: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check one pair of features and view it as groups of samples.

    Args:
        student: ``(n, d_s)`` or ``(g, n, d_s)``, floating point.
        teacher: ``(n, d_t)`` or ``(g, n, d_t)``, floating point.
        mask: ``(n,)`` or ``(g, n)``, bool or 0/1, true where a sample counts. None counts every sample.
        same_width: whether ``d_s`` must equal ``d_t``.

    Returns:
        The student ``(g, n, d_s)``, the detached teacher ``(g, n, d_t)``, and the mask as bool ``(g, n, 1)`` or
        None. ``g`` is 1 if the inputs have no groups.

    Raises:
        UserError: the shapes or types do not fit.
    """
    for name, x in (("student", student), ("teacher", teacher)):
        if x.ndim not in (2, 3):
            raise UserError(
                f"{name} features have shape {shape(x)}; they must be (n, d) or (g, n, d)."
            )
        if not x.is_floating_point():
            raise UserError(f"{name} features have type {x.dtype}; they must be floating point.")
    if student.shape[:-1] != teacher.shape[:-1]:
        raise UserError(
            f"student features {shape(student)} and teacher features {shape(teacher)} do not hold "
            "the same samples; all sizes but the last must be equal."
        )
    if same_width and student.shape[-1] != teacher.shape[-1]:
        raise UserError(
            f"student features {shape(student)} and teacher features {shape(teacher)} differ in "
            "width; project the student to the teacher's width first."
        )
    if mask is not None:
        check_mask(student, mask)
        mask = mask.bool().unsqueeze(-1)
    teacher = teacher.detach()
    if student.ndim == 2:
        student, teacher = student.unsqueeze(0), teacher.unsqueeze(0)
        mask = None if mask is None else mask.unsqueeze(0)
    return student, teacher, mask


def check_mask(x: Tensor, mask: Tensor) -> None:
    """Raise a `UserError` unless ``mask`` has one entry for each sample of ``x``."""
    if mask.shape != x.shape[:-1]:
        raise UserError(
            f"mask has shape {shape(mask)}; features {shape(x)} need a mask of "
            f"{tuple(x.shape[:-1])}."
        )


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or in float64 if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def statistics_dtype(student: Tensor, teacher: Tensor) -> torch.dtype:
    """Return float32, or float64 if one of the inputs is float64."""
    return torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)


def unit_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the rows ``(..., d)`` to length 1, and tell which of them ``(...)`` count.

    A row that is shorter than `NORM_FLOOR` has no direction. It does not count, becomes zeros and gets no gradient. A
    NaN row counts, so that the loss becomes NaN and the user sees the fault.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    counts = ~(norm.detach() <= NORM_FLOOR)
    return torch.where(counts, x / torch.where(counts, norm, 1), 0), counts.squeeze(-1)


def squared_gram_norm(z: Tensor) -> Tensor:
    """Return ``||Z Z^T||_F² = ||Z^T Z||_F²`` of each group, computed with the smaller of the two matrices."""
    gram = z @ z.mT if z.shape[1] < z.shape[2] else z.mT @ z
    return gram.square().sum((1, 2))


def count_samples(x: Tensor, valid: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Count the samples of each group of ``x (g, n, d)`` that the mask keeps, as ``(g,)``."""
    if valid is None:
        return x.new_full((x.shape[0],), x.shape[1], dtype=dtype)
    return valid.sum((1, 2), dtype=dtype)


def over_groups(values: Tensor, counts: Tensor, *, per_group: bool) -> Tensor:
    """Average ``values (g,)`` over the groups whose ``counts (g,)`` are above zero.

    If no group has a sample, the average is 0. ``per_group`` returns the values themselves, with 0 for a group
    without a sample.
    """
    counted = counts > 0
    values = torch.where(counted, values, 0)
    return values if per_group else values.sum() / counted.sum().clamp(min=1)
