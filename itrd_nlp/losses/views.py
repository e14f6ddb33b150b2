"""Views that turn hidden states ``(B, L, d)`` and a padding mask into samples for the losses between hidden states.

The paper defines its losses on ``n`` samples of ``d`` features. It does not define a sample of a transformer layer.
This module offers three definitions, and ``docs/results.md`` compares them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import at_least_float32

VIEWS = ("tokens", "sequence", "pooled")


def to_samples(hidden: Tensor, mask: Tensor, view: str) -> tuple[Tensor, Tensor]:
    """Turn the hidden states of one layer into samples.

    Args:
        hidden: hidden states ``(B, L, d)``.
        mask: ``(B, L)``, bool or 0/1, true where a token counts. Padding never counts.
        view: definition of a sample. ``"tokens"``: every valid token of the batch is a sample. ``"sequence"``: each
            sequence is a group with its own statistics, and its valid tokens are the samples. ``"pooled"``: the mean
            over the valid tokens of a sequence is one sample.

    Returns:
        The samples, and a mask that is true where a sample counts. Their shapes are ``(B * L, d)`` and ``(B * L,)``
        for ``tokens``, ``(B, L, d)`` and ``(B, L)`` for ``sequence``, and ``(B, d)`` and ``(B,)`` for ``pooled``.

    Raises:
        UserError: ``view`` is none of the three.
    """
    mask = mask.bool()
    if view == "tokens":
        return hidden.flatten(0, 1), mask.flatten()
    if view == "sequence":
        return hidden, mask
    if view == "pooled":
        # A sum of up to 512 tokens in bf16 would lose the mean.
        kept = torch.where(mask.unsqueeze(-1), at_least_float32(hidden), 0.0)
        count = mask.sum(dim=1, keepdim=True)
        return kept.sum(dim=1) / count.clamp(min=1), count.squeeze(1) > 0
    raise UserError(f"view is {view!r}, but must be one of {', '.join(VIEWS)}.")


def draw_samples(mask: Tensor, max_samples: int) -> Tensor:
    """Draw at most ``max_samples`` samples at random, without replacement and with the valid samples first.

    For every ``k`` the first ``k`` indices are themselves a random draw. The number of indices does not depend on the
    values in the mask, so the CPU need not wait for a GPU. If too few samples are valid, masked samples fill the rest;
    ``mask[indices]`` tells them apart. The draw uses torch's global generator.

    Args:
        mask: ``(n,)``, bool or 0/1, true where a sample counts.
        max_samples: number of samples to draw, at least 1.

    Returns:
        Indices into the samples, ``(min(n, max_samples),)``.
    """
    keys = torch.rand(mask.shape, device=mask.device).masked_fill(~mask.bool(), -1.0)
    return keys.topk(min(max_samples, mask.numel()), sorted=True).indices
