"""Hidden states ``(B, L, d)`` and a padding mask, seen as samples for the two losses.

The paper defines its losses on ``n`` samples of ``d`` features and does not say what a sample of a transformer layer
is. Three readings are offered, and ``docs/results.md`` compares them.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from itrd_nlp.errors import UserError

View = Literal["tokens", "sequence", "pooled"]
VIEWS: tuple[str, ...] = get_args(View)


def to_samples(hidden: Tensor, mask: Tensor, view: str) -> tuple[Tensor, Tensor]:
    """Turn the hidden states of one layer into samples.

    Args:
        hidden: ``(B, L, d)`` hidden states.
        mask: ``(B, L)``, true (or 1) where a token counts. Padding never counts.
        view: ``"tokens"``: every valid token of the batch is a sample. ``"sequence"``: the tokens of a sequence are
            samples of that sequence alone, with statistics of their own. ``"pooled"``: the mean over the valid tokens
            of a sequence is one sample.

    Returns:
        The samples and the mask of those that count: ``(B * L, d)`` and ``(B * L,)`` for ``tokens``, ``(B, L, d)``
        and ``(B, L)`` for ``sequence``, ``(B, d)`` and ``(B,)`` for ``pooled``.

    Raises:
        UserError: ``view`` is none of the three.
    """
    mask = mask.bool()
    if view == "tokens":
        return hidden.flatten(0, 1), mask.flatten()
    if view == "sequence":
        return hidden, mask
    if view == "pooled":
        # Sums of up to 512 tokens: bf16 would lose the mean.
        kept = torch.where(mask.unsqueeze(-1), hidden.float(), 0.0)
        count = mask.sum(dim=1, keepdim=True)
        return kept.sum(dim=1) / count.clamp(min=1), count.squeeze(1) > 0
    raise UserError(f"view is {view!r}, but must be one of {', '.join(VIEWS)}.")


def draw_samples(mask: Tensor, max_samples: int) -> Tensor:
    """Indices of at most ``max_samples`` samples, drawn at random without replacement, valid ones first.

    The first ``k`` of them are themselves a draw of ``k`` samples, for every ``k``. The result has a fixed length,
    ``min(len(mask), max_samples)``, so that nothing waits for a GPU: where fewer valid samples exist the rest are
    masked ones, and ``mask[indices]`` says which. The draw uses torch's global generator.

    Args:
        mask: ``(n,)``, true where a sample counts.
        max_samples: how many to draw, at least 1.
    """
    keys = torch.rand(mask.shape, device=mask.device).masked_fill(~mask.bool(), -1.0)
    return keys.topk(min(max_samples, mask.numel()), sorted=True).indices
