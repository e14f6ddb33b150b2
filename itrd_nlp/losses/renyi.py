"""Matrix-based Rényi entropy and mutual information of any order (section 3, eqs. 3 to 5).

By eigenvalues, so slow and exact: the reference that the fast mutual information loss is held
against, and a measure for analysis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import check_mask, shape


def gram_matrix(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """Gram matrix of the L2-normalised rows, divided by its trace (definition 1).

    The kernel is polynomial of degree 1: the inner product (section 4.2).

    Args:
        z: Samples ``(n, d)``, or ``(g, n, d)`` for one matrix per group.
        mask: ``(n,)`` or ``(g, n)``, true where a sample counts. Other rows, and rows of zeros,
            give rows of zeros.

    Returns:
        ``(n, n)`` or ``(g, n, n)``: symmetric, positive semi-definite, of trace 1; in float32, or
        float64 for float64.

    Raises:
        UserError: The shapes do not fit.
    """
    if z.ndim not in (2, 3):
        raise UserError(f"samples have shape {shape(z)}; they must be (n, d) or (g, n, d).")
    if mask is not None:
        check_mask(z, mask)
        z = torch.where(mask.bool().unsqueeze(-1), z, 0)
    z = torch.nn.functional.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=-1)
    with torch.autocast(z.device.type, enabled=False):
        return _unit_trace(z @ z.mT)


def matrix_entropy(a: Tensor, alpha: float) -> Tensor:
    """Rényi's entropy of order ``alpha`` of a matrix (eq. 3).

    ``1 / (1 - alpha) log2 sum_i lambda_i^alpha`` of the eigenvalues; ``alpha = 1`` is the limit,
    the von Neumann entropy ``-sum_i lambda_i log2 lambda_i``.

    Args:
        a: Symmetric, positive semi-definite ``(..., n, n)``. It is divided by its trace.
        alpha: The order, above 0.

    Returns:
        ``(...)``, in bits: from 0 (one eigenvalue) to ``log2 n`` (all equal); 0 for a matrix of
        zeros.

    Raises:
        UserError: ``a`` is not square, or ``alpha`` is not a positive number.
    """
    if not (alpha > 0 and math.isfinite(alpha)):
        raise UserError(f"alpha is {alpha}; the order of the entropy must be a number above 0.")
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise UserError(f"matrix has shape {shape(a)}; the entropy needs a square matrix.")
    eigenvalues: Tensor = torch.linalg.eigvalsh(_unit_trace(a))
    # Zero eigenvalues come out as rounding noise, which a power below 1 would make large:
    # (1e-17)^0.1 = 0.02.
    kept = eigenvalues > a.shape[-1] * torch.finfo(a.dtype).eps * eigenvalues.amax(-1, keepdim=True)
    logs = torch.where(kept, eigenvalues, 1).log()
    if alpha == 1:
        return (eigenvalues * logs).sum(-1) / -math.log(2)
    # Through logarithms, because lambda^alpha leaves the range of floats for large alpha.
    powers = torch.where(kept, alpha * logs, -torch.inf)
    entropy = powers.logsumexp(-1) / ((1 - alpha) * math.log(2))
    return torch.where(kept.any(-1), entropy, 0)


def joint_entropy(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """Joint entropy of two Gram matrices of the same samples (eq. 4).

    It is the entropy of their elementwise product. Arguments, result and errors as for
    `matrix_entropy`.

    Raises:
        UserError: The shapes differ.
    """
    if a.shape != b.shape:
        raise UserError(
            f"matrices have shapes {shape(a)} and {shape(b)}; the joint entropy needs equal shapes."
        )
    return matrix_entropy(a * b, alpha)


def mutual_information(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """Mutual information of two Gram matrices of the same samples (eq. 5), in bits.

    It is ``S(a) + S(b) - S(a, b)``. Arguments, result and errors as for `joint_entropy`.

    Example:
        >>> z = torch.randn(32, 8)
        >>> mutual_information(gram_matrix(z), gram_matrix(2 * z), alpha=2.0).isfinite()
        tensor(True)
    """
    return matrix_entropy(a, alpha) + matrix_entropy(b, alpha) - joint_entropy(a, b, alpha)


def _unit_trace(a: Tensor) -> Tensor:
    trace = a.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    scaled: Tensor = a / torch.where(trace > 0, trace, 1)
    return scaled
