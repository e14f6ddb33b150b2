"""What several peers compute: means without padding, unit vectors, samples, heads, projections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers.base import LayerStates, Sizes
from itrd_nlp.losses.projection import make_projection
from itrd_nlp.losses.views import to_samples

NORM_FLOOR = 1e-12  # vectors shorter than this have no direction


def make_projections(
    sizes: Sizes, pairs: Sequence[LayerPair], *, always: bool = False, init: str = "auto"
) -> nn.ModuleList:
    """One linear layer a pair from the student's width to the teacher's.

    Args:
        sizes: of the encoders.
        pairs: the layer pairs.
        always: make one where the widths are equal, too; there the identity stands in otherwise.
        init: see `itrd_nlp.losses.make_projection`.
    """
    if sizes.student == sizes.teacher and not always:
        return nn.ModuleList(nn.Identity() for _ in pairs)
    return nn.ModuleList(make_projection(sizes.student, sizes.teacher, init=init) for _ in pairs)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where the mask of the same shape is true; 0 where it never is."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1 along the last dimension. A zero vector stays zero and gets no gradient."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    long = ~(norm.detach() <= NORM_FLOOR)  # NaN counts, so that the loss shows it
    return torch.where(long, x / torch.where(long, norm, 1), 0)


def pooled(states: LayerStates, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the valid tokens of each sequence ``(B, d)``, and which sequences ``(B,)`` have any."""
    return to_samples(states.hidden, mask, "pooled")


def first_token(states: LayerStates, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The first valid token of each sequence ``(B, d)``, and which sequences ``(B,)`` have one."""
    first = mask.int().argmax(dim=1)
    rows = torch.arange(len(first), device=first.device)
    return states.hidden[rows, first], mask.any(dim=1)


def pairs_of(valid: Tensor) -> Tensor:
    """Which entries of the last two of ``(..., n, n)`` are pairs of valid samples ``(..., n)``."""
    return valid.unsqueeze(-1) & valid.unsqueeze(-2)


def distinct_pairs_of(valid: Tensor) -> Tensor:
    """Which entries of ``(n, n)`` are pairs of two different valid samples ``(n,)``."""
    return pairs_of(valid) & ~torch.eye(len(valid), dtype=torch.bool, device=valid.device)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(B, L, d)`` as ``(B, heads, L, d / heads)``."""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)
