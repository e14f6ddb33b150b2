"""The logits and hidden states of any encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers.utils import ModelOutput

from itrd_nlp.losses.outputs import EncoderOutput
from itrd_nlp.models.attention import attention_states

LOGITS = ("logits", "start_logits", "end_logits")


def encode(
    model: nn.Module, inputs: dict[str, Any], layers: Sequence[int], *, attention: bool = False
) -> tuple[ModelOutput, EncoderOutput]:
    """Run a model and keep its logits and the hidden states of ``layers`` alone.

    Args:
        model: any encoder with a head, of transformers.
        inputs: its keyword arguments.
        layers: indices into ``hidden_states``; empty: none are asked for.
        attention: keep the queries, keys and values of these layers, too.

    Returns:
        The model's own output and what the objective reads of it.

    Raises:
        UserError: `attention` is asked for and the architecture is not known.
    """
    layers = sorted(set(layers))
    with attention_states(model, [n for n in layers if n > 0] if attention else []) as states:
        output = model(**inputs, output_hidden_states=layers or False, return_dict=True)
    logits = {name: output[name] for name in LOGITS if name in output}
    hidden_states = {layer: output.hidden_states[layer] for layer in layers}
    return output, EncoderOutput(logits, hidden_states, states)
