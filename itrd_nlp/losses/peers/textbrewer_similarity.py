"""The loss on similarities of tokens that TextBrewer calls mmd or nst."""

from __future__ import annotations

from torch import Tensor

from itrd_nlp.losses.peers._shared import masked_mean, pairs_of
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss


class TextBrewerSimilarity(PeerLoss):
    r"""Compare the similarities of tokens: ``mean (Z_s Z_s^T / d_s - Z_t Z_t^T / d_t)²``.

    ``Z`` holds the tokens of a sequence. The mean is over the pairs of valid tokens within each sequence.
    The widths may differ without a projection. TextBrewer's recipe for span heads consists of this loss, with weight 1,
    and `HiddenMSE`. If TextBrewer gets a mask, it divides by the padded length instead of the width. This class always
    divides by the width.

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
