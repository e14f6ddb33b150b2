"""Read the logits and hidden states of any encoder."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers.utils.generic import ModelOutput

from itrd_nlp.losses.outputs import EncoderOutput
from itrd_nlp.models.attention import attention_states

LOGITS = ("logits", "start_logits", "end_logits")
"""Names of the logits in the outputs of transformers' heads."""


def longest_input(model: nn.Module) -> int | None:
    """Return the number of tokens for which a model has positions.

    Args:
        model: any encoder of transformers.

    Returns:
        The number, or None if the model has no table of positions and takes any length.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from the one behind that of the padding.
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - skipped
    return None


def own_inputs(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a batch that a model reads.

    A student and its teacher share a batch, but one of them may read a tensor that the other does not know, such as
    ``token_type_ids``.

    Args:
        model: any encoder of transformers.
        inputs: the batch.

    Returns:
        The entries that ``model.forward`` names. If it does not name ``input_ids``, it is a wrapper and gets all.
    """
    names = inspect.signature(model.forward).parameters
    if "input_ids" not in names:
        return inputs
    return {name: value for name, value in inputs.items() if name in names}


def encode(
    model: nn.Module, inputs: dict[str, Any], layers: Sequence[int], *, attention: bool = False
) -> tuple[ModelOutput, EncoderOutput]:
    """Run a model and keep its logits and the hidden states of the given layers.

    Args:
        model: any encoder of transformers with a head.
        inputs: keyword arguments of the model.
        layers: indices into ``hidden_states``. If it is empty, the model computes no hidden states for the output.
        attention: keep the queries, keys and values of these layers, too. Default: false.

    Returns:
        The model's own output, and the part of it that the objective reads.

    Raises:
        UserError: ``attention`` is true, and the architecture is unknown.
    """
    layers = sorted(set(layers))
    with attention_states(model, [n for n in layers if n > 0] if attention else []) as states:
        output = model(**inputs, output_hidden_states=layers or False, return_dict=True)
    logits = {name: output[name] for name in LOGITS if name in output}
    hidden_states = {layer: output.hidden_states[layer] for layer in layers}
    return output, EncoderOutput(logits, hidden_states, states)
