"""Variational information distillation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import masked_mean
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes

INITIAL_VARIANCE = 5.0
"""Variance of every feature before the first step, as in the authors' code."""

MIN_VARIANCE = 1e-5
"""Lower bound of the variances, as in the authors' code."""


class VID(PeerLoss):
    r"""Predict the teacher: ``1 / (n d_t) sum_i sum_c 1/2 [log v_c + (z_t,ic - mu_c(z_s,i))² / v_c]``.

    The mean is over the n valid tokens and the d_t features. The loss is minus the log-likelihood of the teacher's
    features under a Gaussian. Up to a constant, it bounds the mutual information between student and teacher. The
    Gaussian's mean ``mu`` is a network of three linear layers with ReLU on the student's features. Its variance
    ``v_c = softplus(a_c) + 1e-5`` is learned for each feature and starts at 5.0. Each pair has its own mean and
    variances. The loss may be negative.

    Ahn, Hu, Damianou, Lawrence, Dai, "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
    arXiv:1904.05835.
    """

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, pairs)
        width = sizes.teacher
        self.means = nn.ModuleList(
            nn.Sequential(
                nn.Linear(sizes.student, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, width),
            )
            for _ in self.pairs
        )
        # The inverse of softplus.
        start = math.log(math.expm1(INITIAL_VARIANCE - MIN_VARIANCE))
        self.scales = nn.ParameterList(torch.full((width,), start) for _ in self.pairs)

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        variance = F.softplus(self.scales[index]) + MIN_VARIANCE
        error = teacher.hidden - self.means[index](student.hidden)
        return masked_mean((variance.log() + error.square() / variance).mean(-1) / 2, mask)
