"""Simple recipe distillation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import make_projections
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes

POWER = 4
"""Power of the distances, as in the authors' code."""

VARIANCE_FLOOR = 1e-4
"""Added to a variance, as in the batch normalisation of the authors' code."""

SUM_FLOOR = 1e-5
"""Added to the sum before its logarithm, as in the authors' code."""


class SRD(PeerLoss):
    r"""Compare batch-normalised features: ``ln(sum_ic |BN(W s)_ic - BN(t)_ic|^4 + 1e-5)``.

    ``BN`` centres every feature and divides it by its standard deviation over the batch, without weights. ``W`` is a
    learned linear layer. A sample is a valid token. (In the paper a sample is an image or a token of it.) The widths
    may differ.

    Miles, Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", AAAI 2024,
    arXiv:2303.11098. The first version of the paper calls the method "simple recipe distillation".
    """

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, pairs)
        self.projections = make_projections(sizes, self.pairs, always=True)

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        valid = mask.unsqueeze(-1)
        s = _batch_norm(self.projections[index](student.hidden), valid)
        difference = s - _batch_norm(teacher.hidden, valid)
        return (difference.abs().pow(POWER).sum() + SUM_FLOOR).log()


def _batch_norm(x: Tensor, valid: Tensor) -> Tensor:
    """Normalise ``(B, L, d)`` over the valid tokens. Padding becomes zeros."""
    count = valid.sum().clamp(min=1)
    centred = torch.where(valid, x - torch.where(valid, x, 0).sum((0, 1)) / count, 0)
    variance = centred.square().sum((0, 1)) / count
    return centred / (variance + VARIANCE_FLOOR).sqrt()
