"""Contrastive representation distillation, with the negatives of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import masked_mean, pooled, unit
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes

WIDTH = 128
"""Width of the embeddings that the loss compares, as in the authors' code."""

TEMPERATURE = 0.07
"""Temperature tau of the softmax, as in the authors' code."""


class CRD(PeerLoss):
    r"""Contrast each sequence with the others: ``-1/n sum_i log exp(s_i·t_i / tau) / sum_j exp(s_i·t_j / tau)``.

    The loss adds the same term with ``s`` and ``t`` exchanged. ``s`` and ``t`` are learned linear embeddings of both
    models into 128 features, scaled to length 1. tau is 0.07. A sample is the mean over the valid tokens of a sequence.
    The widths may differ.

    The paper draws 16,384 negatives from a memory of the whole data set, and its loss is noise contrastive estimation.
    Here the other sequences of the batch are the negatives, and the loss is InfoNCE. A larger batch therefore makes the
    task harder. A batch of one sequence gives 0.

    Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020, arXiv:1910.10699.
    InfoNCE: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
    arXiv:1807.03748, eq. 4.
    """

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, pairs)
        self.of_student = nn.ModuleList(nn.Linear(sizes.student, WIDTH) for _ in self.pairs)
        self.of_teacher = nn.ModuleList(nn.Linear(sizes.teacher, WIDTH) for _ in self.pairs)

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        s, valid = pooled(student, mask)
        t, _ = pooled(teacher, mask)
        s, t = unit(self.of_student[index](s)), unit(self.of_teacher[index](t))
        logits = s @ t.mT / TEMPERATURE
        return _contrast(logits, valid) + _contrast(logits.mT, valid)


def _contrast(logits: Tensor, valid: Tensor) -> Tensor:
    logits = logits.masked_fill(~valid, torch.finfo(logits.dtype).min)
    return masked_mean(-logits.log_softmax(dim=1).diagonal(), valid)
