"""TextBrewer's similarity of tokens, which it calls mmd or nst."""

from __future__ import annotations

from torch import Tensor

from itrd_nlp.losses.peers._shared import masked_mean, pairs_of
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss


class TextBrewerSimilarity(PeerLoss):
    r"""``mean (Z_s Z_s^T / d_s - Z_t Z_t^T / d_t)²`` over the pairs of valid tokens of one sequence, of all sequences.

    ``Z`` holds the tokens of a sequence, so the widths may differ and there is no projection. The other half of
    TextBrewer's recipe for SQuAD, weight 1, besides `HiddenMSE`. TextBrewer itself divides by the (padded) length in
    place of the width where it is given a mask; here it is always the width.

    Yang et al., "TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing", ACL 2020
    (demonstrations), arXiv:2002.12620, ``mmd_loss``. A variant of `NST`.
    """

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        difference = _similarities(student.hidden) - _similarities(teacher.hidden)
        return masked_mean(difference.square(), pairs_of(mask))


def _similarities(hidden: Tensor) -> Tensor:
    return hidden @ hidden.mT / hidden.shape[-1]
