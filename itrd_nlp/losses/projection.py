"""The linear layer that embeds the student's features in the teacher's space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import check_mask, shape

INITS = ("auto", "identity", "default")


def make_projection(d_s: int, d_t: int, *, init: str = "auto", bias: bool = True) -> nn.Linear:
    """Make a linear layer from the student's width to the teacher's, the "embed" of algorithm 1.

    Args:
        d_s: width of the student's features.
        d_t: width of the teacher's features.
        init: initial weights. ``"identity"`` starts as the identity and needs ``d_s == d_t``. ``"default"`` is the
            initialisation of `torch.nn.Linear`. ``"auto"`` is ``"identity"`` if the widths are equal, and
            ``"default"`` otherwise. Default: ``"auto"``.
        bias: give the layer a bias. It starts at zero if the weight starts as the identity. Default: true.

    Returns:
        The layer, with ``weight (d_t, d_s)``.

    Raises:
        UserError: ``init`` is unknown, a width is below 1, or ``"identity"`` is given for different widths.
    """
    if init not in INITS:
        raise UserError(
            f"projection init {init!r} is unknown; it must be one of {', '.join(INITS)}."
        )
    if d_s < 1 or d_t < 1:
        raise UserError(
            f"projection from width {d_s} to width {d_t} is impossible; widths must be at least 1."
        )
    if init == "identity" and d_s != d_t:
        raise UserError(
            f"projection init 'identity' needs equal widths, not {d_s} and {d_t}; "
            "use 'auto' or 'default'."
        )
    layer = nn.Linear(d_s, d_t, bias=bias)
    if init != "default" and d_s == d_t:
        nn.init.eye_(layer.weight)
        if bias:
            nn.init.zeros_(layer.bias)
    return layer


def project(projection: nn.Module, student: Tensor, mask: Tensor | None, *, d_s: int) -> Tensor:
    """Apply ``projection`` to the student's features, with zeros in the masked rows.

    Without the zeros a NaN in a masked row would reach the gradient of the weight, because 0 * NaN is NaN.

    Args:
        projection: a module from width ``d_s`` to the teacher's width ``d_t``.
        student: features ``(..., d_s)``.
        mask: ``(...)``, true where a sample counts. None counts every sample.
        d_s: width that the features must have.

    Returns:
        Features ``(..., d_t)``.

    Raises:
        UserError: the features are not ``d_s`` wide, or the mask does not fit.
    """
    if student.shape[-1] != d_s:
        raise UserError(
            f"student features have shape {shape(student)}; "
            f"this loss was made for a last size of {d_s}."
        )
    if mask is not None:
        check_mask(student, mask)
        student = torch.where(mask.bool().unsqueeze(-1), student, 0)
    projected: Tensor = projection(student)
    return projected
