"""Patient knowledge distillation: states of the first token."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers._shared import first_token, make_projections, masked_mean, unit
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes


class PatientKD(PeerLoss):
    r"""Compare the first tokens: ``1 / b sum_i || h_s,i / ||h_s,i|| - h_t,i / ||h_t,i|| ||²``.

    ``h`` is the hidden state of the first token of a sequence, and ``b`` is the number of sequences. The loss reads the
    pairs that ``layer_map`` gives. The paper leaves out the last layer of both models: its PKD-skip for six of twelve
    layers is ``1:2 2:4 3:6 4:8 5:10``. If the widths differ, a linear layer projects the student. The paper does not
    cover this case.

    Sun, Cheng, Gan, Liu, "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019, arXiv:1908.09355.
    """

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__(sizes, pairs)
        self.projections = make_projections(sizes, self.pairs)

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        h_s, valid = first_token(student, mask)
        h_t, _ = first_token(teacher, mask)
        difference = unit(self.projections[index](h_s)) - unit(h_t)
        return masked_mean(difference.square().sum(-1), valid)
