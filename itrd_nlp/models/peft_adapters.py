"""Models with adapters of PEFT, wrapped by `peft.PeftModel` or given one by `add_adapter` of transformers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from itrd_nlp.errors import UserError

_OF_KEYS = ("PREFIX_TUNING", "CARTRIDGE")
_PREFIX = "base_model.model."
"""PEFT puts this before the names of a file. Names in a model without its wrapper have none."""


def has_adapters(model: nn.Module) -> bool:
    """Return whether a model has adapters of PEFT. `save_pretrained` then saves the adapters alone."""
    return bool(getattr(model, "peft_config", None))


def check_adapters(model: nn.Module) -> None:
    """Refuse a model that trains parameters which its adapters do not save.

    Raises:
        UserError: names the parameters and says how to save them; or it learns a prompt.
    """
    from peft import get_peft_model_state_dict  # with adapters there is PEFT

    prompt = _prompt(model)
    if prompt is not None:
        raise UserError(
            f"the student learns a prompt ({prompt.peft_type.value}), which no checkpoint of a distillation holds; "
            "give it adapters in its layers, such as LoRA."
        )
    saved: set[int] = set()
    for name in _names(model):
        state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        saved |= {value.data_ptr() for value in state.values()}
    lost = [n for n, p in model.named_parameters() if p.requires_grad and p.data_ptr() not in saved]
    if lost:
        raise UserError(
            f"the student trains {', '.join(lost[:3])}{' and more' if len(lost) > 3 else ''}, but PEFT saves the "
            "adapters alone; freeze them, or name them in modules_to_save of the adapter's configuration."
        )


def virtual_tokens(model: Any) -> int:
    """Return the number of positions that a learned prompt takes from the tokens of a text; 0 without one.

    Args:
        model: any model, with or without a wrapper of PEFT.
    """
    config = _prompt(model)
    return 0 if config is None else int(config.num_virtual_tokens)


def virtual_states(model: Any) -> int:
    """Return the number of hidden states that a model has in front of those of the tokens.

    A prompt of embeddings has states of its own. One of keys and values (prefix tuning) has none.

    Args:
        model: any model, with or without a wrapper of PEFT.
    """
    config = _prompt(model)
    if config is None or config.peft_type in _OF_KEYS:
        return 0
    return int(config.num_virtual_tokens)


def _prompt(model: Any) -> Any:
    """The configuration of the prompt that a wrapper of PEFT has learned; None without one."""
    if not has_adapters(model):
        return None
    from peft import PeftModel

    if not isinstance(model, PeftModel) or not model.active_peft_config.is_prompt_learning:
        return None
    return model.active_peft_config


def merged(model: Any) -> Any:
    """Return a model without adapters that computes the same. A model that has none is returned as it is.

    Args:
        model: a model of transformers. It does not change.

    Raises:
        UserError: it has adapters that are not a wrapper of PEFT, which alone can merge them, or such as lie beside
            the weights and not in them, as a learned prompt does.
    """
    if not has_adapters(model):
        return model
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTuner

    if not isinstance(model, PeftModel):
        raise UserError(
            f"{type(model).__name__} has adapters of add_adapter, which cannot be merged; load them by "
            "peft.PeftModel.from_pretrained."
        )
    if not isinstance(model.base_model, BaseTuner):
        raise UserError(
            f"{type(model).__name__} has learned {model.active_peft_config.peft_type.value}, which cannot be merged "
            "into its weights; take the model without it."
        )
    return copy.deepcopy(model).merge_and_unload()


def load_adapters(model: nn.Module, folder: Path) -> None:
    """Read the adapters that `save_pretrained` of this model has written.

    Args:
        model: a model with the same adapters.
        folder: the folder with the files.

    Raises:
        UserError: the files of an adapter are missing.
    """
    from peft import PeftModel, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    for name in _names(model):
        wrapped = isinstance(model, PeftModel)
        place = folder / name if wrapped and name != "default" else folder
        if not any(place.glob("adapter_model.*")):
            raise UserError(f"{place} does not hold the adapter {name!r} of the student.")
        weights = load_peft_weights(str(place), device="cpu")
        if not wrapped:
            weights = {n.removeprefix(_PREFIX): value for n, value in weights.items()}
        set_peft_model_state_dict(model, weights, adapter_name=name)


def _names(model: Any) -> list[str]:
    return list(model.peft_config)
