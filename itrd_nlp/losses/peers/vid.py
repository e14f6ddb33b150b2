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
MIN_VARIANCE = 1e-5


class VID(PeerLoss):
    r"""``1 / (n d_t) sum_i sum_c 1/2 [log v_c + (z_t,ic - mu_c(z_s,i))² / v_c]`` over the n valid tokens.

    A bound of the mutual information between student and teacher, up to a constant: minus the log-likelihood of the
    teacher's features under a Gaussian whose mean ``mu`` is a network of three linear layers (with ReLU) on the
    student's, and whose variance ``v_c = softplus(a_c) + 1e-5`` is learned for each feature, from 5.0 on as in the
    authors' code. Both are of each pair. The loss may be negative.

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
        start = math.log(math.expm1(INITIAL_VARIANCE - MIN_VARIANCE))  # softplus the other way
        self.scales = nn.ParameterList(torch.full((width,), start) for _ in self.pairs)

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        variance = F.softplus(self.scales[index]) + MIN_VARIANCE
        error = teacher.hidden - self.means[index](student.hidden)
        return masked_mean((variance.log() + error.square() / variance).mean(-1) / 2, mask)
