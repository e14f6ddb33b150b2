"""Queries, keys and values of an encoder, read as it runs.

They come from the linear layers that make them, so every attention implementation (eager, SDPA, flash) gives them, and
no attention map is kept that nobody asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import AttentionStates

# What BERT, RoBERTa and ELECTRA, then MPNet, then DistilBERT call the three layers.
_NAMES = (("query", "key", "value"), ("q", "k", "v"), ("q_lin", "k_lin", "v_lin"))


def attention_projections(model: Any) -> list[tuple[nn.Module, nn.Module, nn.Module]]:
    """The linear layers that make the queries, keys and values of each layer of an encoder, from the first on.

    Args:
        model: an encoder of transformers, with or without a head.

    Raises:
        UserError: the architecture is none of those known, or its layers share their weights.
    """
    found = []
    for module in model.modules():
        children = dict(module.named_children())
        for query, key, value in _NAMES:
            if {query, key, value} <= children.keys():
                found.append((children[query], children[key], children[value]))
    if len(found) != model.config.num_hidden_layers:
        raise UserError(
            f"peer_losses ask for queries, keys and values, but those of {type(model).__name__} are not where BERT, "
            "RoBERTa, ELECTRA, MPNet and DistilBERT have theirs; take peers that read hidden states alone."
        )
    return found


@contextlib.contextmanager
def attention_states(
    model: nn.Module, layers: Sequence[int]
) -> Iterator[dict[int, AttentionStates]]:
    """Record queries, keys and values while the model runs in the body of the ``with`` statement.

    Args:
        model: see `attention_projections`.
        layers: counted from 1.

    Yields:
        layer -> its queries, keys and values with their gradient history; filled when the body ends.

    Raises:
        UserError: see `attention_projections`.
    """
    projections = attention_projections(model) if layers else []
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _: Any, output: Tensor) -> None:
        outputs[module] = output

    handles = [
        module.register_forward_hook(keep) for layer in layers for module in projections[layer - 1]
    ]
    recorded: dict[int, AttentionStates] = {}
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        recorded[layer] = AttentionStates(*(outputs[module] for module in projections[layer - 1]))
