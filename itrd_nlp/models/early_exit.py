"""Run an encoder up to a layer and no further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from itrd_nlp.errors import UserError
from itrd_nlp.models.students import encoder_layers_name


def holds_its_layers_in_a_list(model: PreTrainedModel) -> bool:
    """Whether `hidden_states_up_to` can stop this model; ALBERT, say, runs one layer many times."""
    try:
        encoder_layers_name(model)
    except UserError:
        return False
    return True


class _Enough(Exception):
    """The last layer that is wanted has run."""


def hidden_states_up_to(
    model: PreTrainedModel, inputs: dict[str, Any], layers: Sequence[int]
) -> dict[int, Tensor]:
    """The hidden states of some layers; layers above the highest of them and the head do not run.

    Args:
        model: an encoder that holds its layers in one ``nn.ModuleList``.
        inputs: its keyword arguments.
        layers: indices as in ``hidden_states``, 0 being what goes into the first layer; at least one, and all below
            the model's last, which some architectures normalise once more.

    Returns:
        layer -> ``(B, L, d)``, equal to ``hidden_states[layer]`` of the whole model.

    Raises:
        UserError: the model does not hold its layers in one list.
    """
    blocks: Any = model.get_submodule(encoder_layers_name(model))
    last = max(layers)
    found: dict[int, Tensor] = {}

    # What goes into layer n + 1 is what came out of layer n, whatever else a layer returns.
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
        model(**inputs)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found
