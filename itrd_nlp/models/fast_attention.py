"""An attention implementation for transformers with the name ``fast``.

It is PyTorch's fused attention in all cases but one: training in bf16 on a CPU. In that case the backward pass of the
fused kernel takes longer than the rest of a layer. transformers' ``eager`` converts scores, mask and softmax to fp32
and back. This module writes the attention out in bf16 instead. The softmax kernel still sums in fp32, so the
probabilities are the same, with a third of the passes over memory. `docs/performance.md` has the figures.
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
"""Value of ``attn_implementation`` that selects this attention."""


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
    """Compute attention with the signature that transformers expects.

    Args:
        module: the attention layer.
        query: the queries ``(B, H, L, d)``.
        key: the keys ``(B, H, L, d)``.
        value: the values ``(B, H, L, d)``.
        attention_mask: ``(B, 1, L, L)``, true where a query sees a key. None lets every query see every key.
        dropout: dropout rate of the probabilities. Default: 0.
        scaling: factor of the scores. Default: ``d ** -0.5``.
        **kwargs: further arguments of transformers' `sdpa_attention_forward`.

    Returns:
        The attended values ``(B, L, H, d)``, and None in place of the probabilities.
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
    with torch.autocast("cpu", enabled=False):  # autocast would convert the softmax to fp32
        weights = F.dropout(torch.softmax(scores, dim=-1), dropout)
        return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def _is_plain(module: nn.Module, query: Tensor, key: Tensor, kwargs: dict[str, Any]) -> bool:
    """Tell whether this is plain encoder attention: not causal, and without additions to the scores."""
    causal = kwargs.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)  # sdpa_attention_forward has the same default
    special = ("position_bias", "softcap", "cache")
    return (
        not causal
        and query.shape == key.shape
        and all(kwargs.get(name) is None for name in special)
    )


def check_fast_attention(model: PreTrainedModel) -> None:
    """Refuse a model with ``attn_implementation`` ``fast`` that cannot call `fast_attention`.

    Such a model computes attention with its own code. MPNet is an example.

    Args:
        model: a loaded model.

    Raises:
        UserError: the model cannot call `fast_attention`. The message names the class of the model.
    """
    if model.config._attn_implementation == FAST and not model._supports_attention_backend:
        raise UserError(
            f"attn_implementation is {FAST}, but {type(model).__name__} has its own attention code; use eager."
        )


AttentionInterface.register(FAST, fast_attention)
AttentionMaskInterface.register(FAST, sdpa_mask)
