"""Distillation through an orthogonal projection."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, smooth_l1_loss

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import masked_mean
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes


class VkD(PeerLoss):
    r"""Compare features through an orthogonal projection: the mean of ``smooth_l1(P s, LN(t))``.

    ``P`` is a learned matrix whose rows or columns are orthonormal, so that it keeps the student's similarities. ``LN``
    normalises each sample of the teacher over its features, without weights. A sample is a valid token. (In the paper
    it is the mean over an image, or a token in object detection.) ``P`` starts as the identity where the widths are
    equal. The widths may differ.

    Miles, Elezi, Deng, "VkD: Improving Knowledge Distillation using Orthogonal Projections", CVPR 2024,
    arXiv:2403.06213.
    """

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, pairs)
        self.projections = nn.ModuleList(
            _orthogonal(sizes.student, sizes.teacher) for _ in self.pairs
        )

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        target = layer_norm(teacher.hidden, teacher.hidden.shape[-1:])
        losses = smooth_l1_loss(self.projections[index](student.hidden), target, reduction="none")
        return masked_mean(losses.mean(-1), mask)


def _orthogonal(d_s: int, d_t: int) -> nn.Module:
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(d_s, d_t, bias=False))
    if d_s == d_t:
        layer.weight = torch.eye(d_s)
    return layer
