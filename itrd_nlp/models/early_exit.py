"""Run an encoder only up to a certain layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from itrd_nlp.errors import UserError
from itrd_nlp.models.adaptor import as_positions
from itrd_nlp.models.encode import encode, own_inputs, token_mask
from itrd_nlp.models.peft_adapters import virtual_states
from itrd_nlp.models.students import encoder_layers_name


def holds_its_layers_in_a_list(model: nn.Module) -> bool:
    """Tell whether `hidden_states_up_to` can stop this model. It cannot stop ALBERT, which repeats one layer."""
    try:
        encoder_layers_name(model)
    except UserError:
        return False
    return True


class _Enough(Exception):
    """Signals that the last requested layer has run."""


def hidden_states_up_to(
    model: nn.Module, inputs: dict[str, Any], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Compute the hidden states of some layers, and stop the model after the highest of them.

    Args:
        model: an encoder that holds its layers in one ``nn.ModuleList``.
        inputs: the batch. The model gets the part that it reads.
        layers: indices into ``hidden_states``, at least one. Index 0 is the input of the first layer. All must be below
            the model's last layer, because some architectures normalise its output once more.

    Returns:
        A mapping from layers to hidden states ``(B, L, d)``. They equal ``hidden_states[layer]`` of the whole model.

    Raises:
        UserError: the model does not hold its layers in one list.
    """
    blocks: Any = model.get_submodule(encoder_layers_name(model))
    last = max(layers)
    found: dict[int, Tensor] = {}

    # Layers return different things in different architectures. The input of layer n + 1 is always the
    # output of layer n, so the hooks read the inputs.
    def keep(index: int) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found[index] = args[0] if args else kwargs["hidden_states"]
            if index == last:
                raise _Enough

        return hook

    handles = [
        blocks[index].register_forward_pre_hook(keep(index), with_kwargs=True)
        for index in set(layers)
    ]
    try:
        model(**own_inputs(model, inputs))
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    mask, who, front = token_mask(model, inputs), type(model).__name__, virtual_states(model)
    return {layer: as_positions(states, mask, who, front) for layer, states in found.items()}


def early_exit_fails(model: nn.Module, inputs: dict[str, Any], layers: Sequence[int]) -> str | None:
    """Compare `hidden_states_up_to` with a whole pass of the model on one batch.

    XLNet, for example, hands ``(L, B, d)`` from layer to layer, and other models call their layers in another way.

    Args:
        model: see `hidden_states_up_to`.
        inputs: keyword arguments of the model.
        layers: indices into ``hidden_states``.

    Returns:
        The reason why this model must run to its end, None where both ways agree.
    """
    whole = encode(model, inputs, layers, reads_logits=False)[1].hidden_states
    try:
        early = hidden_states_up_to(model, inputs, layers)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return f"its layers are called in another way ({type(error).__name__})"
    for layer in layers:
        if layer not in early:
            return f"layer {layer} did not run by itself"
        if early[layer].shape != whole[layer].shape:
            return (
                f"layer {layer} holds {tuple(early[layer].shape)}, not {tuple(whole[layer].shape)}"
            )
        if not torch.allclose(early[layer].float(), whole[layer].float(), atol=1e-3):
            return f"layer {layer} holds other values"
    return None
