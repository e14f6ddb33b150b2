"""One rule in place of the weights of the losses between hidden states: their share of the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from itrd_nlp.distillation.distributed import sum_over_ranks
from itrd_nlp.errors import UserError

MEASURE_EVERY = 20
"""Optimizer steps from one measurement to the next. A measurement runs the backward pass of the head twice more."""


class GradientShare(nn.Module):
    """Scale the losses between hidden states so that they hold a share of the gradient.

    The gradients of both kinds of loss are measured at the student's last hidden state that a loss reads. Let ``a`` be
    the norm of the gradient of the task loss and KD, ``h`` that of the losses between hidden states, and ``p`` the
    share. The scale ``a / h * p / (1 - p)`` gives ``p = scale h / (a + scale h)``. A new measurement and the scale so
    far count equally, as the geometric mean of both. The logarithm of the correlation loss keeps its gradient from
    falling while that of KD falls, so that without such a rule its share grows to the end of a training.

    The scale is a buffer, so a resumed training goes on with it. With several processes it is the same on all of them.

    Args:
        share: the share ``p``, above 0 and below 1.
    """

    scale: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("scale", torch.zeros(()))  # 0: nothing was measured yet

    def forward(
        self,
        output_terms: Sequence[Tensor],
        hidden_terms: Sequence[Tensor],
        state: Tensor,
        fade: float,
        *,
        measure: bool,
    ) -> Tensor:
        """Return the scale, a scalar, after a measurement if one is asked for. It is 1 before the first measurement.

        Args:
            output_terms: task loss and KD of the micro-batch, each with its weight.
            hidden_terms: the losses between hidden states, each with its weight.
            state: the student's last hidden state ``(B, L, d)`` that one of ``hidden_terms`` reads.
            fade: the factor by which ``hidden_terms`` fade. The scale does not make up for it.
            measure: whether to measure. All processes must say the same.

        Raises:
            UserError: the losses do not depend on the state.
        """
        if measure and output_terms and fade > 0:
            kinds = (output_terms, hidden_terms)
            norms = torch.stack([_squared_norm(losses, state) for losses in kinds])
            output_norm, hidden_norm = sum_over_ranks(norms.detach()).sqrt()
            measured = output_norm / hidden_norm * fade * self.share / (1 - self.share)
            known = measured.isfinite() & (measured > 0)
            mean = torch.where(self.scale > 0, (self.scale * measured).sqrt(), measured)
            self.scale.copy_(torch.where(known, mean, self.scale))
        return torch.where(self.scale > 0, self.scale, 1.0)


def _squared_norm(losses: Sequence[Tensor], state: Tensor) -> Tensor:
    loss = torch.stack(list(losses)).sum()
    (gradient,) = torch.autograd.grad(loss, state, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise UserError(
            "hidden_share cannot be measured, because a loss does not depend on the student's last hidden state of "
            "layer_map; add the student's last layer to layer_map, or set hidden_share to 0."
        )
    return gradient.float().square().sum()
