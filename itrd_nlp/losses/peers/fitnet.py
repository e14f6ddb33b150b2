"""FitNets: regression of a hint."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import make_projections, masked_mean
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes


class FitNet(PeerLoss):
    r"""Regress a hint: ``1 / n sum_i 1/2 ||r(z_s,i) - z_t,i||²`` over the n valid tokens of the middle pair.

    The hint is the teacher's layer of the middle pair, or of the lower one of two middle pairs. The regressor ``r`` is
    a linear layer with torch's initialisation, even if the widths are equal. The paper trains on the hint first and on
    the labels afterwards. Here both are terms of one loss, as in the comparisons of later papers.

    Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550, eq. 3.
    """

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, [sorted(pairs)[(len(pairs) - 1) // 2]])
        self.projections = make_projections(sizes, self.pairs, always=True, init="default")

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        regressed = self.projections[index](student.hidden)
        return masked_mean((regressed - teacher.hidden).square().sum(-1) / 2, mask)
