"""TinyBERT: attention transfer and hidden states."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import AttentionStates, LayerPair
from itrd_nlp.losses.peers._shared import make_projections, masked_mean, pairs_of, split_heads
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes


class TinyBERT(PeerLoss):
    r"""Compare attention scores and hidden states: ``1 / h sum_heads MSE(A_s, A_t) + MSE(Z_s W, Z_t)``.

    The means leave out padding. ``A = Q K^T / sqrt(d_head)`` are the attention scores before the softmax. The paper
    found that they work better than the probabilities. ``W`` is a linear layer of each pair; it starts as the identity
    if the widths are equal. A pair with layer 0, the embeddings, has only the second term.

    ``Q`` and ``K`` are the outputs of the linear layers. What an architecture does with them besides is left out: the
    relative positions of MPNet and DeBERTa-v2, the scale of the latter, and the rotation of RoFormer and Llama.

    Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", Findings of EMNLP 2020,
    arXiv:1909.10351.

    Raises:
        UserError: student and teacher have different numbers of heads.
    """

    needs_attention = True

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, pairs)
        if sizes.student_heads != sizes.teacher_heads:
            raise UserError(
                f"peer_losses names TinyBERT, which compares attention head by head, but the student has "
                f"{sizes.student_heads} heads and the teacher {sizes.teacher_heads}; MiniLMv2 allows different numbers."
            )
        self.projections = make_projections(sizes, self.pairs, always=True)

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        projected = self.projections[index](student.hidden)
        loss = masked_mean((projected - teacher.hidden).square().mean(-1), mask)
        if student.attention is not None and teacher.attention is not None:
            heads = self.sizes.student_heads
            difference = _scores(student.attention, heads) - _scores(teacher.attention, heads)
            loss = loss + masked_mean(difference.square().mean(1), pairs_of(mask))
        return loss


def _scores(attention: AttentionStates, heads: int) -> Tensor:
    queries, keys = split_heads(attention.queries, heads), split_heads(attention.keys, heads)
    return queries @ keys.mT / math.sqrt(queries.shape[-1])
