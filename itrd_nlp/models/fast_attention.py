"""An attention for transformers, by the name ``fast``: PyTorch's fused one, but in bf16 training on a CPU.

There the backward pass of the fused kernel takes longer than all the rest of a layer, and transformers' ``eager`` goes
through scores, mask and softmax in fp32 and back. Written out in bf16, whose softmax sums in fp32 inside the kernel,
the same probabilities come out with a third of the passes over memory. `docs/performance.md` has the figures.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from itrd_nlp.errors import UserError

FAST = "fast"


def fast_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it.

    Args:
        module: the layer.
        query: ``(B, H, L, d)``.
        key: the same shape.
        value: the same shape.
        attention_mask: ``(B, 1, L, L)``, true where a query sees a key; None where each sees all.
        dropout: of the probabilities.
        scaling: of the scores. Default: d ** -0.5.
        **kwargs: what else `sdpa_attention_forward` of transformers takes.

    Returns:
        ``(B, L, H, d)``, and no probabilities.
    """
    slow_when_fused = (
        query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled()
    )
    if not slow_when_fused or not _is_plain(module, query, key, kwargs):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scale, key.transpose(-2, -1))
    if attention_mask is not None:
        scores.masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
    with torch.autocast("cpu", enabled=False):  # which would take the softmax in fp32
        weights = F.dropout(torch.softmax(scores, dim=-1), dropout)
        return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def _is_plain(module: nn.Module, query: Tensor, key: Tensor, kwargs: dict[str, Any]) -> bool:
    """Whether it is what an encoder does: all see all, and nothing is added to the scores."""
    causal = kwargs.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)  # as sdpa_attention_forward has it
    special = ("position_bias", "softcap", "cache")
    return (
        not causal
        and query.shape == key.shape
        and all(kwargs.get(name) is None for name in special)
    )


def check_fast_attention(model: PreTrainedModel) -> None:
    """Refuse a model that would not call `fast_attention`, because its attention is its own.

    Raises:
        UserError: names the model.
    """
    if model.config._attn_implementation == FAST and not model._supports_attention_backend:
        raise UserError(
            f"attn_implementation is {FAST}, but {type(model).__name__} has an attention of its own; take eager."
        )


AttentionInterface.register(FAST, fast_attention)
AttentionMaskInterface.register(FAST, sdpa_mask)
