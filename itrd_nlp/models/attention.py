"""Hooks that record the queries, keys and values of an encoder while it runs.

The hooks sit on the linear layers that make the queries, keys and values. So they work with every attention
implementation (eager, SDPA, flash), and no attention map is kept in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import AttentionStates

# Names of the three layers in BERT, RoBERTa and ELECTRA, then in MPNet, in DistilBERT, in OPT and Llama, in DeBERTa.
_NAMES = (
    ("query", "key", "value"),
    ("q", "k", "v"),
    ("q_lin", "k_lin", "v_lin"),
    ("q_proj", "k_proj", "v_proj"),
    ("query_proj", "key_proj", "value_proj"),
)


def attention_projections(model: Any) -> list[tuple[nn.Module, nn.Module, nn.Module]]:
    """Find the linear layers that make the queries, keys and values of an encoder.

    Args:
        model: an encoder of transformers, with or without a head.

    Returns:
        The three linear layers of each layer of the encoder, in the order of the layers.

    Raises:
        UserError: the architecture is unknown, its layers share their weights, or they are no linear layers.
    """
    found = []
    for module in model.modules():
        children = dict(module.named_children())
        for query, key, value in _NAMES:
            if {query, key, value} <= children.keys():
                found.append((children[query], children[key], children[value]))
    layers = getattr(model.config, "num_hidden_layers", None)
    linear = all(isinstance(module, nn.Linear) for three in found for module in three)
    if len(found) != layers or not linear:
        raise UserError(
            f"peer_losses ask for queries, keys and values, but those of {type(model).__name__} are not where BERT, "
            "RoBERTa, ELECTRA, MPNet and DistilBERT have theirs; choose peers that read only hidden states."
        )
    return found


def check_layout(
    states: Mapping[int, AttentionStates], hidden_states: Mapping[int, Tensor], who: str
) -> None:
    """Refuse queries, keys and values that do not lie as the hidden states do.

    Longformer computes them as ``(L, B, d)``, and models with groups of heads have fewer keys than queries. A loss that
    splits them into heads would compare other things than it says.

    Args:
        states: layer to its queries, keys and values.
        hidden_states: layer to its hidden states ``(B, L, d)``.
        who: name of the model, for the error message.

    Raises:
        UserError: a shape is another one.
    """
    for layer, state in states.items():
        expected = tuple(hidden_states[layer].shape)
        for name in ("queries", "keys", "values"):
            found = tuple(getattr(state, name).shape)
            if found != expected:
                raise UserError(
                    f"peer_losses ask for {name} of the shape {expected}, but those of layer {layer} of {who} have "
                    f"{found}; choose peers that read only hidden states."
                )


@contextlib.contextmanager
def attention_states(
    model: nn.Module, layers: Sequence[int]
) -> Iterator[dict[int, AttentionStates]]:
    """Record queries, keys and values while the model runs in the body of the ``with`` statement.

    Args:
        model: an encoder of transformers, with or without a head.
        layers: numbers of the layers to record, counted from 1.

    Yields:
        A mapping from layers to their queries, keys and values, each ``(B, L, d)``, with their gradient history. It is
        filled when the body ends.

    Raises:
        UserError: the architecture is unknown, or its layers share their weights.
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
