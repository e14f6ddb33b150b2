"""Neuron selectivity transfer."""

from __future__ import annotations

from torch import Tensor

from itrd_nlp.losses.peers._shared import unit
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss


class NST(PeerLoss):
    r"""Compute the squared maximum mean discrepancy between the neurons of student and teacher.

    A neuron is a feature. Its vector ``f`` holds the values at the valid tokens of a sequence, scaled to length 1. The
    kernel is polynomial, ``k(x, y) = (x·y)²``. The loss is the mean over the sequences of
    ``1/d_t² sum_ij k(f_t,i, f_t,j) + 1/d_s² sum_ij k(f_s,i, f_s,j) - 2/(d_s d_t) sum_ij k(f_s,i, f_t,j)``. The widths
    may differ.

    The code computes the equal form ``||F_s^T F_s / d_s - F_t^T F_t / d_t||_F²``, which needs only products of tokens.

    Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017, arXiv:1707.01219.
    """

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        difference = _token_products(student.hidden) - _token_products(teacher.hidden)
        # Padding is zero and adds nothing.
        return difference.square().sum() / mask.any(dim=1).sum().clamp(min=1)


def _token_products(hidden: Tensor) -> Tensor:
    neurons = unit(hidden.mT)
    return neurons.mT @ neurons / neurons.shape[1]
