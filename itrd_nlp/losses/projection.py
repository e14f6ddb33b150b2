"""The linear embedding of the student's features into the teacher's space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import check_mask, shape

INITS = ("auto", "identity", "default")


def make_projection(d_s: int, d_t: int, *, init: str = "auto", bias: bool = True) -> nn.Linear:
    """One linear layer from the student's width to the teacher's: the "embed" of algorithm 1.

    Args:
        d_s: Width of the student's features.
        d_t: Width of the teacher's features.
        init: "identity": the layer starts as the identity, which needs ``d_s == d_t``. "default":
            the initialisation of `torch.nn.Linear`. "auto": "identity" where the widths are equal,
            "default" elsewhere.
        bias: Whether the layer has a bias. It starts at zero where the weight starts as the
            identity.

    Returns:
        The layer, with ``weight (d_t, d_s)``.

    Raises:
        UserError: Unknown ``init``, a width below 1, or "identity" for different widths.
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
    """Applies ``projection`` to the student's features ``(..., d_s)``, with 0 in masked rows.

    Otherwise a NaN in a masked row would reach the gradient of the weight, as 0 * NaN.

    Raises:
        UserError: The features are not ``d_s`` wide, or the mask does not fit.
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
