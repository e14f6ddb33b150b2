"""Put a model on a device."""

from __future__ import annotations

import torch
from torch import nn
from transformers.utils.quantization_config import QuantizationMethod

from itrd_nlp.errors import UserError
from itrd_nlp.models.quantised import is_packed, is_quantised


def keeps_dtype(model: nn.Module) -> bool:
    """Return whether transformers refuses to cast a model, because of the library that has quantised it."""
    return getattr(model, "quantization_method", None) in (
        QuantizationMethod.BITS_AND_BYTES,
        QuantizationMethod.GPTQ,
        QuantizationMethod.QUARK,
    )


def put_on(model: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> nn.Module:
    """Put a model on a device, and into a dtype.

    A quantised model stays where bitsandbytes or accelerate has put it, because neither lets it be moved.

    Args:
        model: changed in place.
        device: where it goes.
        dtype: of its weights. Default: None, as they are.

    Returns:
        The model.

    Raises:
        UserError: accelerate has spread a model of whole weights over several devices, or over memory and disk; or the
            model was quantised for a CPU and the device is another one.
    """
    places = sorted({_name(place) for place in getattr(model, "hf_device_map", {}).values()})
    if not is_quantised(model):
        if len(places) > 1:
            raise UserError(
                f"{type(model).__name__} lies on {' and '.join(places)} by its device_map, but a training needs it on "
                "one device; load it without device_map, or quantised."
            )
        return model.to(device=device, dtype=dtype)
    by_bitsandbytes = (
        getattr(model, "quantization_method", None) == QuantizationMethod.BITS_AND_BYTES
    )
    if len(places) > 1 or by_bitsandbytes:
        return model
    if device.type not in ("cpu", "meta") and is_packed(model):
        raise UserError(
            f"{type(model).__name__} was quantised by quantize_dynamic of torch, which runs on the CPU alone, but the "
            f"device is {device.type}; set use_cpu, or quantise it by another library."
        )
    return model.to(device)


def _name(place: int | str | torch.device) -> str:
    """One name for each place of a device map, which may spell it in several ways."""
    if place == "disk":
        return "disk"
    device = torch.device(f"cuda:{place}" if isinstance(place, int) else place)
    return str(device) if device.index else device.type
