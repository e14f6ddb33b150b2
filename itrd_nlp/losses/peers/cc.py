"""Correlation congruence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itrd_nlp.losses.peers._shared import masked_mean, pairs_of, pooled, unit
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss

GAMMA = 0.4
"""Width parameter of the Gaussian kernel."""

ORDER = 2
"""Highest power of the Taylor series."""


class CC(PeerLoss):
    r"""Compare the kernel values of all pairs of samples: ``1 / n² sum_ij (k(s_i, s_j) - k(t_i, t_j))²``.

    ``k`` is the Taylor series of a Gaussian kernel, ``k(x, y) = exp(-2 gamma) sum_{p=0..P} (2 gamma)^p / p! (x·y)^p``.
    ``x`` and ``y`` have length 1, gamma is 0.4, and P is 2. A sample is the mean over the valid tokens of a sequence.
    The widths may differ.

    Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, arXiv:1904.01802.
    """

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        s, valid = pooled(student, mask)
        t, _ = pooled(teacher, mask)
        return masked_mean((_kernel(unit(s)) - _kernel(unit(t))).square(), pairs_of(valid))


def _kernel(x: Tensor) -> Tensor:
    product = x @ x.mT
    terms = [(2 * GAMMA) ** p / math.factorial(p) * product**p for p in range(ORDER + 1)]
    return math.exp(-2 * GAMMA) * torch.stack(terms).sum(dim=0)
