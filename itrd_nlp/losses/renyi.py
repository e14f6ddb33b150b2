"""Matrix-based Rényi entropy and mutual information of any order (section 3, eqs. 3 to 5).

The functions compute eigenvalues, so they are exact but slow. They serve for analysis, and the tests compare the fast
mutual information loss with them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import at_least_float32, check_mask, shape


def gram_matrix(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the Gram matrix of the L2-normalised rows, divided by its trace (definition 1).

    The kernel is the inner product, which is the polynomial kernel of degree 1 (section 4.2).

    Args:
        z: samples ``(n, d)``, or ``(g, n, d)`` for one matrix per group.
        mask: ``(n,)`` or ``(g, n)``, bool or 0/1, true where a sample counts. The other rows give rows of zeros, and
            so do rows of zeros. Default: every sample counts.

    Returns:
        ``(n, n)`` or ``(g, n, n)``, in float32, or in float64 for float64 samples. Each matrix is symmetric and
        positive semi-definite and has trace 1.

    Raises:
        UserError: the shapes do not fit.
    """
    if z.ndim not in (2, 3):
        raise UserError(f"samples have shape {shape(z)}; they must be (n, d) or (g, n, d).")
    if mask is not None:
        check_mask(z, mask)
        z = torch.where(mask.bool().unsqueeze(-1), z, 0)
    z = torch.nn.functional.normalize(at_least_float32(z), dim=-1)
    with torch.autocast(z.device.type, enabled=False):
        return _unit_trace(z @ z.mT)


def matrix_entropy(a: Tensor, alpha: float) -> Tensor:
    """Return Rényi's entropy of order ``alpha`` of a matrix (eq. 3).

    The entropy is ``1 / (1 - alpha) log2 sum_i lambda_i^alpha`` of the eigenvalues. ``alpha = 1`` gives the limit, the
    von Neumann entropy ``-sum_i lambda_i log2 lambda_i``.

    Args:
        a: symmetric, positive semi-definite matrices ``(..., n, n)``. Each is divided by its trace.
        alpha: order of the entropy, above 0.

    Returns:
        Entropies ``(...)`` in bits. The entropy is 0 for a single eigenvalue above zero and ``log2 n`` for equal
        eigenvalues. It is 0 for a matrix of zeros.

    Raises:
        UserError: ``a`` is not square, or ``alpha`` is not a positive number.
    """
    if not (alpha > 0 and math.isfinite(alpha)):
        raise UserError(f"alpha is {alpha}; the order of the entropy must be a number above 0.")
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise UserError(f"matrix has shape {shape(a)}; the entropy needs a square matrix.")
    eigenvalues: Tensor = torch.linalg.eigvalsh(_unit_trace(a))
    # eigvalsh returns zero eigenvalues as rounding noise. A power below 1 would make the noise
    # large: (1e-17)^0.1 = 0.02.
    kept = eigenvalues > a.shape[-1] * torch.finfo(a.dtype).eps * eigenvalues.amax(-1, keepdim=True)
    logs = torch.where(kept, eigenvalues, 1).log()
    if alpha == 1:
        return (eigenvalues * logs).sum(-1) / -math.log(2)
    # The sum uses logarithms, because lambda^alpha leaves the range of floats for large alpha.
    powers = torch.where(kept, alpha * logs, -torch.inf)
    entropy = powers.logsumexp(-1) / ((1 - alpha) * math.log(2))
    return torch.where(kept.any(-1), entropy, 0)


def joint_entropy(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """Return the joint entropy of two Gram matrices of the same samples (eq. 4).

    The joint entropy is the entropy of the elementwise product.

    Args:
        a: matrices ``(..., n, n)``, symmetric and positive semi-definite.
        b: matrices of the same shape.
        alpha: order of the entropy, above 0.

    Returns:
        Entropies ``(...)`` in bits.

    Raises:
        UserError: the shapes differ, the matrices are not square, or ``alpha`` is not a positive number.
    """
    if a.shape != b.shape:
        raise UserError(
            f"matrices have shapes {shape(a)} and {shape(b)}; the joint entropy needs equal shapes."
        )
    return matrix_entropy(a * b, alpha)


def mutual_information(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """Return the mutual information of two Gram matrices of the same samples (eq. 5).

    The mutual information is ``S(a) + S(b) - S(a, b)``.

    Args:
        a: matrices ``(..., n, n)``, symmetric and positive semi-definite.
        b: matrices of the same shape.
        alpha: order of the entropies, above 0.

    Returns:
        Mutual information ``(...)`` in bits.

    Raises:
        UserError: the shapes differ, the matrices are not square, or ``alpha`` is not a positive number.

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
