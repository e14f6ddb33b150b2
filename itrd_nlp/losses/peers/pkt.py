"""Probabilistic knowledge transfer."""

from __future__ import annotations

import torch
from torch import Tensor

from itrd_nlp.losses.peers._shared import distinct_pairs_of, pooled, unit
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss

EPS = 1e-7
"""Smallest sum of a row, and the number that keeps the logarithm of a zero probability finite."""


class PKT(PeerLoss):
    r"""Compare neighbourhoods: ``1 / n sum_j KL(p_t(.|j) || p_s(.|j))``.

    ``p(i|j)`` is the probability that sample i is a neighbour of sample j. It is ``K_ij / sum_{k != j} K_kj`` with the
    cosine kernel ``K_ij = (cos(x_i, x_j) + 1) / 2``. A sample is the mean over the valid tokens of a sequence. The
    widths may differ. A batch of fewer than three samples gives 0.

    Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018, arXiv:1803.10837.
    """

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        s, valid = pooled(student, mask)
        t, _ = pooled(teacher, mask)
        pairs = distinct_pairs_of(valid)
        p_s, p_t = _neighbours(unit(s), pairs), _neighbours(unit(t), pairs)
        divergence = (p_t * ((p_t + EPS).log() - (p_s + EPS).log())).sum()
        return divergence / valid.sum().clamp(min=1)


def _neighbours(x: Tensor, pairs: Tensor) -> Tensor:
    """Return one row of probabilities over the other samples for each sample, or zeros if there are no others."""
    kernel = torch.where(pairs, (x @ x.mT + 1) / 2, 0)
    return kernel / kernel.sum(dim=1, keepdim=True).clamp(min=EPS)
