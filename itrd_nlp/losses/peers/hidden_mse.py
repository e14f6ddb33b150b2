"""Mean squared error of hidden states."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import make_projections, masked_mean
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes


class HiddenMSE(PeerLoss):
    r"""Compare hidden states: ``1 / (n d_t) sum_i ||W z_s,i + b - z_t,i||²`` over the n valid tokens.

    If the widths are equal, there is no projection ``W``, ``b``. TextBrewer's recipe for span heads consists of this
    loss and `TextBrewerSimilarity`. The recipe gives this loss the weight 1 and also compares the embeddings
    (``include_embeddings``).

    Yang et al., "TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing", ACL 2020
    (demonstrations), arXiv:2002.12620, ``hidden_mse``.
    """

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, pairs)
        self.projections = make_projections(sizes, self.pairs)

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        projected = self.projections[index](student.hidden)
        return masked_mean((projected - teacher.hidden).square().mean(-1), mask)
