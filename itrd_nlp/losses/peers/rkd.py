"""Relational distillation: distances and angles."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from itrd_nlp.losses.peers._shared import distinct_pairs_of, masked_mean, pooled, unit
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss

DISTANCE_WEIGHT = 1.0
"""Weight of the distances in the paper's RKD-DA."""

ANGLE_WEIGHT = 2.0
"""Weight of the angles in the paper's RKD-DA."""


class RKD(PeerLoss):
    r"""Compare distances and angles: ``mean_ij h(d_s,ij - d_t,ij) + 2 mean_ijk h(a_s,ijk - a_t,ijk)``.

    ``h`` is Huber's loss. ``d_ij`` is ``||x_i - x_j||`` divided by its mean. ``a_ijk`` is the cosine of the angle at
    ``x_j`` between ``x_i`` and ``x_k``. The means are over pairs and triplets of different samples. The weights 1 and 2
    are those of the paper's RKD-DA. A sample is the mean over the valid tokens of a sequence. The widths may differ.
    For n sequences the loss needs ``O(n² (n + d))`` memory.

    Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068.
    """

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        s, valid = pooled(student, mask)
        t, _ = pooled(teacher, mask)
        pairs = distinct_pairs_of(valid)
        distance = F.smooth_l1_loss(_distances(s, pairs), _distances(t, pairs), reduction="none")
        # The triplets [j, i, k] of three different samples.
        triplets = pairs[:, :, None] & pairs[:, None, :] & pairs[None, :, :]
        angle = F.smooth_l1_loss(_angles(s), _angles(t), reduction="none")
        by_distance, by_angle = masked_mean(distance, pairs), masked_mean(angle, triplets)
        return DISTANCE_WEIGHT * by_distance + ANGLE_WEIGHT * by_angle


def _distances(x: Tensor, pairs: Tensor) -> Tensor:
    distances: Tensor = torch.linalg.vector_norm(x[None] - x[:, None], dim=-1)
    mean = masked_mean(distances, pairs)
    return distances / torch.where(mean > 0, mean, 1)


def _angles(x: Tensor) -> Tensor:
    """Return the cosines ``[j, i, k]`` of the angles at ``x_j``."""
    directions = unit(x[None] - x[:, None])
    return directions @ directions.mT
