"""Three peers that align the Gram matrices of student and teacher. They differ in their samples."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from itrd_nlp.losses.alignment import alignment_loss
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss
from itrd_nlp.losses.views import draw_samples, to_samples

MAX_TOKENS = 512
"""Tokens of a batch that `TokenAlignment` draws, as many as the mutual information loss reads by default."""


class _Alignment(PeerLoss):
    view: ClassVar[str]

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        s, valid = to_samples(student.hidden, mask, self.view)
        t, _ = to_samples(teacher.hidden, mask, self.view)
        if self.view == "tokens" and len(valid) > MAX_TOKENS:
            drawn = draw_samples(valid, MAX_TOKENS)
            s, t, valid = s.index_select(0, drawn), t.index_select(0, drawn), valid[drawn]
        return alignment_loss(s, t, mask=valid)


class TokenAlignment(_Alignment):
    """Align the Gram matrices of at most 512 tokens drawn from the batch, see `itrd_nlp.losses.alignment_loss`.

    It stands in the place of the paper's mutual information loss, and the teacher is its minimum. The widths may
    differ.
    """

    view = "tokens"


class SequenceAlignment(_Alignment):
    """Align the Gram matrices of the tokens of each sequence by itself, see `itrd_nlp.losses.alignment_loss`.

    The widths may differ.
    """

    view = "sequence"


class PooledAlignment(_Alignment):
    """Align the Gram matrices of the sequences of a batch, see `itrd_nlp.losses.alignment_loss`.

    A sample is the mean over the valid tokens of a sequence, so a small batch has few. The widths may differ.
    """

    view = "pooled"
