"""DistilBERT's cosine loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import make_projections, masked_mean, unit
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes


class DistilBertCosine(PeerLoss):
    r"""Compare directions: ``1 / n sum_i (1 - cos(z_s,i, z_t,i))`` over the n valid tokens of the last pair.

    The loss reads only the pair of the highest student layer, as the authors' code does. If the widths differ, a
    linear layer projects the student. The paper does not cover this case.

    Sanh, Debut, Chaumond, Wolf, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019,
    arXiv:1910.01108.
    """

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, [max(pairs)])
        self.projections = make_projections(sizes, self.pairs)

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        projected = self.projections[index](student.hidden)
        return masked_mean(1 - (unit(projected) * unit(teacher.hidden)).sum(-1), mask)
