"""Similarity-preserving distillation."""

from __future__ import annotations

from torch import Tensor

from itrd_nlp.losses.peers._shared import masked_mean, pairs_of, pooled, unit
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss


class SP(PeerLoss):
    r"""Compare the similarities of all pairs of samples: ``1 / b² ||G_s - G_t||_F²``.

    ``G`` is ``Q Q^T`` with its rows scaled to length 1. ``Q (b, d)`` holds one row for each of the b sequences:
    the mean over its valid tokens. (In the paper a sample is an image.) The widths may differ.

    Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv:1907.09682.
    """

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        q_s, valid = pooled(student, mask)
        q_t, _ = pooled(teacher, mask)
        difference = unit(q_s @ q_s.mT) - unit(q_t @ q_t.mT)
        return masked_mean(difference.square(), pairs_of(valid))
