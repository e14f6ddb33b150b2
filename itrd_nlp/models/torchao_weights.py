"""Weights in 8 or 4 bits by torchao, through the way that transformers has for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel, TorchAoConfig

from itrd_nlp.errors import UserError
from itrd_nlp.models.low_bits import row_steps
from itrd_nlp.models.quantised import is_quantised

if TYPE_CHECKING:
    from torchao.core.config import AOBaseConfig

INT4: torch.dtype = torch.int4  # type: ignore[attr-defined]
BITS = {"int8": 8, "int4": 4}
"""Form of the weights to the bits of each."""
_GROUPS = (128, 64, 32)
"""Weights of a row that share a scale in 4 bits. The largest that divides every row is taken."""


def require_torchao() -> None:
    """Refuse to go on without torchao.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("torchao") is None:
        raise UserError(
            "the package torchao is not installed, but weights in int8 or int4 need it; pip install itrd_nlp[quantise]."
        )


def quantised_model(
    model: PreTrainedModel, form: str, load: Callable[[TorchAoConfig], PreTrainedModel]
) -> tuple[PreTrainedModel, int]:
    """Load a model once more, with its weights in few bits.

    ``save_pretrained`` writes it, and ``from_pretrained`` reads it where torchao is installed.

    Args:
        model: in fp32. It is not changed.
        form: ``int8`` or ``int4``, see `torchao_config`.
        load: loads the same model with a ``quantization_config``.

    Returns:
        The model, and how many of its weights have the values that a training in few bits saw, see
        `keep_trained_weights`.

    Raises:
        UserError: see `torchao_config`.

    Example:
        >>> load = lambda config: AutoModelForQuestionAnswering.from_pretrained(
        ...     "runs/my_student", quantization_config=config
        ... )  # doctest: +SKIP
        >>> small, _ = quantised_model(load(None), "int8", load)  # doctest: +SKIP
    """
    small = load(torchao_config(model, form))
    return small, keep_trained_weights(small, model, form)


def torchao_config(model: PreTrainedModel, form: str) -> TorchAoConfig:
    """Return the ``quantization_config`` with which transformers loads a model in few bits.

    It concerns the linear layers of the repeated layers, as ``weight_bits`` does. Embeddings, pooler and head stay as
    they are.

    Args:
        model: the same model in fp32.
        form: ``int8``, one scale for each row, or ``int4``, one for each 128, 64 or 32 weights of a row.

    Raises:
        UserError: torchao is missing, or the model is quantised already or has no such layer.
    """
    require_torchao()
    if is_quantised(model):
        raise UserError(
            "the model is quantised already; quantise the one in fp32 that it was made from."
        )
    linear = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    stacks = [
        f"{name}." for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    ]
    rounded = {name: module for name, module in linear.items() if name.startswith(tuple(stacks))}
    if not rounded:
        raise UserError(
            f"{type(model).__name__} has no linear layer in repeated layers, so there is nothing to quantise."
        )
    return TorchAoConfig(
        _config(form, [module.in_features for module in rounded.values()]),
        modules_to_not_convert=sorted(linear.keys() - rounded.keys()),
    )


def _config(form: str, widths: list[int]) -> AOBaseConfig:
    """The configuration of torchao, of a kind that runs on a CPU."""
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerAxis, PerGroup

    if form == "int8":
        return Int8WeightOnlyConfig()
    group = next((n for n in _GROUPS if all(width % n == 0 for width in widths)), None)
    return IntxWeightOnlyConfig(INT4, PerAxis(0) if group is None else PerGroup(group))


def keep_trained_weights(quantised: nn.Module, model: nn.Module, form: str) -> int:
    """Give weights that were trained in few bits the values that the training saw.

    torchao chooses scales for weights that lie anywhere. The rows of ``weight_bits`` lie on multiples of a step of
    their own, which is therefore the scale of the row.

    Args:
        quantised: a model with the configuration of `torchao_config`. It is changed in place.
        model: the same in fp32.
        form: ``int8`` or ``int4``.

    Returns:
        The number of such weights. The others stay as torchao has rounded them.
    """
    from torchao.quantization import Int8Tensor, IntxUnpackedToInt8Tensor, PerRow

    plain = dict(model.named_modules())
    kept = 0
    for name, layer in quantised.named_modules():
        before = getattr(layer, "weight", None)
        if not isinstance(layer, nn.Linear) or type(before) is nn.Parameter:
            continue
        weight: Any = plain[name].weight.detach()
        steps = row_steps(weight, BITS[form])
        if steps is None:
            continue
        if form == "int8":
            rounded = Int8Tensor.from_hp(weight, PerRow(), scale=steps)
        else:
            rounded = IntxUnpackedToInt8Tensor.from_hp(
                weight,
                (1, weight.shape[1]),
                INT4,
                intx_choose_qparams_algorithm=None,
                custom_scale=steps,
                custom_zero_point=torch.zeros_like(steps, dtype=torch.int8),
            )
        layer.weight = nn.Parameter(rounded, requires_grad=False)
        kept += 1
    return kept
