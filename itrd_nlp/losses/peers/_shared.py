"""Functions that several peers share: means without padding, unit vectors, samples, heads and projections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from itrd_nlp.losses._samples import unit_rows
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers.base import LayerStates, Sizes
from itrd_nlp.losses.projection import make_projection
from itrd_nlp.losses.views import to_samples


def make_projections(
    sizes: Sizes, pairs: Sequence[LayerPair], *, always: bool = False, init: str = "auto"
) -> nn.ModuleList:
    """Make one linear layer for each layer pair, from the student's width to the teacher's.

    Args:
        sizes: sizes of the two encoders.
        pairs: the layer pairs.
        always: make linear layers even if the widths are equal. Otherwise equal widths get the identity.
        init: initial weights, see `itrd_nlp.losses.make_projection`.

    Returns:
        One module for each pair, in the order of the pairs.
    """
    if sizes.student == sizes.teacher and not always:
        return nn.ModuleList(nn.Identity() for _ in pairs)
    return nn.ModuleList(make_projection(sizes.student, sizes.teacher, init=init) for _ in pairs)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average ``values`` where the mask of the same shape is true. Without a true entry the mean is 0."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def unit(x: Tensor) -> Tensor:
    """Scale the vectors along the last dimension to length 1. A zero vector stays zero and gets no gradient."""
    return unit_rows(x)[0]


def pooled(states: LayerStates, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means ``(B, d)`` over the valid tokens, and a mask ``(B,)`` of the sequences that have one."""
    return to_samples(states.hidden, mask, "pooled")


def first_token(states: LayerStates, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first valid tokens ``(B, d)``, and a mask ``(B,)`` of the sequences that have one."""
    first = mask.int().argmax(dim=1)
    rows = torch.arange(len(first), device=first.device)
    return states.hidden[rows, first], mask.any(dim=1)


def pairs_of(valid: Tensor) -> Tensor:
    """Return a mask ``(..., n, n)`` of the pairs in which both samples are valid, from a mask ``(..., n)``."""
    return valid.unsqueeze(-1) & valid.unsqueeze(-2)


def distinct_pairs_of(valid: Tensor) -> Tensor:
    """Return a mask ``(n, n)`` of the pairs of two different valid samples, from a mask ``(n,)``."""
    return pairs_of(valid) & ~torch.eye(len(valid), dtype=torch.bool, device=valid.device)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split ``(B, L, d)`` into ``(B, heads, L, d / heads)``."""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)
