"""MiniLMv2: relations of queries, keys and values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import masked_mean, split_heads
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes

MAX_RELATION_HEADS = 48
"""Number of relation heads in the paper."""


class MiniLMv2(PeerLoss):
    r"""Compare self-attention relations: ``sum_{A in Q, K, V} 1 / (h n) sum_heads sum_i KL(R_t,i || R_s,i)``.

    ``R = softmax(A A^T / sqrt(d_r))`` relates the n valid tokens of a sequence to each other. ``A`` holds the queries,
    the keys or the values of one layer. The loss splits them anew into ``h`` relation heads of width ``d_r``. ``h`` is
    the largest number up to the paper's 48 that divides both widths. So neither the widths nor the numbers of attention
    heads need be equal.

    The loss reads only the pair of the highest student layer. For teachers of 24 layers the paper reads a layer below
    the last one; ``layer_map`` can name it. Each model needs memory for three tensors of ``(B, h, L, L)``.

    Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers",
    Findings of ACL 2021, arXiv:2012.15828.

    Raises:
        UserError: the last pair has layer 0, the embeddings, which have no attention.
    """

    needs_attention = True

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, [max(pairs)])
        if 0 in self.pairs[0]:
            raise UserError(
                f"peer_losses names MiniLMv2, but the last pair of layer_map is {self.pairs[0]} and layer 0, the "
                "embeddings, has no attention; name a pair such as 1:4."
            )
        self.heads = max(
            heads
            for heads in range(1, MAX_RELATION_HEADS + 1)
            if sizes.student % heads == sizes.teacher % heads == 0
        )

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        s, t = student.attention, teacher.attention
        assert s is not None and t is not None
        states = ((s.queries, t.queries), (s.keys, t.keys), (s.values, t.values))
        return torch.stack([self._divergence(a_s, a_t, mask) for a_s, a_t in states]).sum()

    def _divergence(self, a_s: Tensor, a_t: Tensor, mask: Tensor) -> Tensor:
        r_s, r_t = self._log_relations(a_s, mask), self._log_relations(a_t, mask)
        divergence = F.kl_div(r_s, r_t, log_target=True, reduction="none").sum(-1)
        return masked_mean(divergence.mean(1), mask)

    def _log_relations(self, a: Tensor, mask: Tensor) -> Tensor:
        a = split_heads(a, self.heads)
        products = a @ a.mT / math.sqrt(a.shape[-1])
        padding = ~mask[:, None, None, :]
        # The lowest finite number instead of -inf, whose differences in the KL divergence are NaN.
        return products.masked_fill(padding, torch.finfo(a.dtype).min).log_softmax(-1)
