"""Read the logits and hidden states of any encoder."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils.generic import ModelOutput

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import SPAN_LOGITS, EncoderOutput
from itrd_nlp.models.adaptor import Adaptor, Reading, as_positions
from itrd_nlp.models.attention import attention_states, check_layout
from itrd_nlp.models.peft_adapters import virtual_states

LOGITS = ("logits", *SPAN_LOGITS)
"""Names of the logits in the outputs of transformers' heads."""

# Models with an encoder and a decoder name the states of both.
_STATES = ("hidden_states", "encoder_hidden_states")
# From functions to the names of their inputs. It keeps no function alive, because one may hold a whole model.
_NAMES: WeakKeyDictionary[Any, tuple[str, ...]] = WeakKeyDictionary()


def reads_tokens(model: nn.Module) -> bool:
    """Tell whether a model of transformers reads token ids first, and not pixels or a sound."""
    return getattr(model, "main_input_name", None) == "input_ids"


def input_names(model: nn.Module) -> list[str]:
    """Return the names of the inputs of a model. A wrapper of PEFT names fewer than it hands on to its model."""
    forward: Any = unwrap_peft_model(model).forward
    # Every step asks for the names, and a signature takes long to find. accelerate gives single models another method.
    function = forward.__func__ if inspect.ismethod(forward) else None
    if not inspect.isfunction(function):
        return list(inspect.signature(forward).parameters)
    if function not in _NAMES:
        _NAMES[function] = tuple(inspect.signature(forward).parameters)
    return list(_NAMES[function])


def own_inputs(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a batch that a model reads.

    A student and its teacher share a batch, but one of them may read a tensor that the other does not know, such as
    ``token_type_ids``.

    Args:
        model: any encoder of transformers.
        inputs: the batch.

    Returns:
        The entries that ``model.forward`` names. If it does not name its main input, it is a wrapper and gets all.
    """
    names = input_names(model)
    if getattr(model, "main_input_name", "input_ids") not in names:
        return inputs
    return {name: value for name, value in inputs.items() if name in names}


def token_mask(model: nn.Module, inputs: dict[str, Any]) -> Tensor | None:
    """Return which tokens of a batch are no padding.

    Args:
        model: any model of transformers.
        inputs: the batch, with the ``attention_mask`` even if the model does not read it.

    Returns:
        ``(B, L)``, bool or 0/1, one row for each sequence: the choices of a multiple-choice question are sequences.
        None if the model reads no tokens, so that all its positions count.

    Raises:
        UserError: the model reads an ``attention_mask``, and the batch holds none.
    """
    mask: Tensor | None = inputs.get("attention_mask")
    if mask is not None:
        return mask.flatten(0, -2) if mask.dim() > 2 else mask
    if not reads_tokens(model) or "input_ids" not in inputs:
        return None
    if "attention_mask" in input_names(model):
        raise UserError(
            "The batch holds no attention_mask, but the losses must know which tokens are padding."
        )
    ids: Tensor = inputs["input_ids"]
    padding: int | None = model.config.pad_token_id  # type: ignore[union-attr,assignment]
    return torch.ones_like(ids) if padding is None else ids.ne(padding)


def encode(
    model: nn.Module,
    inputs: dict[str, Any],
    layers: Sequence[int] | None,
    *,
    attention: bool = False,
    adaptor: Adaptor | None = None,
    reads_logits: bool = True,
) -> tuple[ModelOutput, EncoderOutput]:
    """Run a model and keep its logits and the hidden states of the given layers.

    Args:
        model: any encoder of transformers with a head, or any module that the adaptor reads.
        inputs: the batch. The model gets the part that it reads.
        layers: indices into ``hidden_states``. If it is empty, the model computes no hidden states for the output. None
            stands for all layers.
        attention: keep the queries, keys and values of these layers, too. Default: false.
        adaptor: the user's function that reads the model. Default: None, for the models of transformers. A model with
            an encoder and a decoder then has the hidden states of its encoder.
        reads_logits: whether the logits are read. Else they may be those of no token. Default: true.

    Returns:
        The model's own output, and the part of it that the objective reads.

    Raises:
        UserError: ``attention`` is true, and the architecture is unknown; a layer does not exist; the hidden states or
            the logits do not belong to the tokens.
    """
    layers = None if layers is None else sorted(set(layers))
    if adaptor is not None:
        return _adapted(model, inputs, layers, adaptor)
    asked: Any = True if layers is None else layers or False
    with attention_states(model, [n for n in layers or [] if n > 0] if attention else []) as states:
        output = model(**own_inputs(model, inputs), output_hidden_states=asked, return_dict=True)
    logits = {name: output[name] for name in LOGITS if name in output}
    front = virtual_states(model)
    if (
        front
        and reads_logits
        and any(name != "logits" or value.dim() > 2 for name, value in logits.items())
    ):
        raise UserError(
            f"{type(model).__name__} has logits of each token and {front} more of the prompt in front of them, which "
            "are those of no token; take adapters in its layers, such as LoRA, or as a teacher set w_kd to 0."
        )
    found = next((output[name] for name in _STATES if output.get(name) is not None), ())
    mask = _mask_of_states(model, inputs, found) if asked else None
    kept = _kept(found, layers, mask, type(model).__name__, front)
    check_layout(states, kept, type(model).__name__)
    return output, EncoderOutput(logits, kept, states, mask)


def _adapted(
    model: nn.Module, inputs: dict[str, Any], layers: list[int] | None, adaptor: Adaptor
) -> tuple[ModelOutput, EncoderOutput]:
    """Read a model by the user's function. The model's own output is made of what the function returns."""
    reading = adaptor(model, inputs)
    if not isinstance(reading, Reading):
        raise UserError(
            f"the adaptor of {type(model).__name__} returned a {type(reading).__name__}, but must return an "
            "itrd_nlp.models.adaptor.Reading."
        )
    logits = reading.logits if isinstance(reading.logits, dict) else {"logits": reading.logits}
    kept = _kept(reading.hidden_states, layers, reading.mask, type(model).__name__)
    loss = {} if reading.loss is None else {"loss": reading.loss}
    return ModelOutput(**loss, **logits), EncoderOutput(logits, kept, {}, reading.mask)


def _kept(
    found: Sequence[Tensor],
    layers: list[int] | None,
    mask: Tensor | None,
    who: str,
    front: int = 0,
) -> dict[int, Tensor]:
    """Return the hidden states of the layers, each ``(B, L, d)``."""
    layers = list(range(len(found))) if layers is None else layers
    if layers and layers[-1] >= len(found):
        last = f"0 to {len(found) - 1}" if found else "none"
        raise UserError(
            f"layer {layers[-1]} of {who} is asked for, but its hidden states are {last}."
        )
    return {layer: as_positions(found[layer], mask, who, front) for layer in layers}


def _mask_of_states(
    model: nn.Module, inputs: dict[str, Any], found: Sequence[Tensor]
) -> Tensor | None:
    """Return which positions of the hidden states count."""
    mask = token_mask(model, inputs)
    if mask is None or reads_tokens(model):
        return mask
    states = next((states for states in found if states is not None), None)
    if states is None or states.dim() != 3 or states.shape[1] >= mask.shape[1]:
        return mask
    # A sound has fewer frames than samples, and the model knows which of them hold sound.
    shorten: Any = getattr(model, "_get_feature_vector_attention_mask", None)
    if shorten is None:
        raise UserError(
            f"{type(model).__name__} has {states.shape[1]} positions for an attention_mask of {mask.shape[1]}; give an "
            "adaptor that says which positions count."
        )
    shortened: Tensor = shorten(states.shape[1], mask)
    return shortened
