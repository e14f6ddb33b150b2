"""A model that answers examples, from a folder, an ONNX folder or the Hub, and on a device."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.utils.quantization_config import QuantizationMethod

from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import fit_tokenizer, load_model, load_tokenizer
from itrd_nlp.models.onnx_model import OnnxModel, is_onnx_folder
from itrd_nlp.models.options import Running
from itrd_nlp.models.placing import keeps_dtype
from itrd_nlp.tasks.answers import check_numbers


def answering_network(
    model: str, head: type, running: Running, *, onnx: type[OnnxModel] = OnnxModel
) -> tuple[Any, Any]:
    """Load a model in evaluation mode, and its tokenizer.

    Args:
        model: folder, ONNX folder or model id.
        head: the class of transformers that loads it.
        running: how it is loaded and runs.
        onnx: the class that loads an ONNX folder.

    Raises:
        UserError: the model or the device cannot be used, or the tokenizer is that of another model.
    """
    network = _network(model, head, running, onnx)
    tokenizer = load_tokenizer(model, running.loading)
    fit_tokenizer(network, tokenizer, model)
    return network, tokenizer


def _network(model: str, head: type, running: Running, onnx: type[OnnxModel]) -> Any:
    device, dtype = running.device, running.dtype
    if is_onnx_folder(model):
        if dtype != "float32" or device not in (None, "cpu"):
            raise UserError(
                f"{model} is an ONNX folder, which runs on the CPU as it was exported; give neither dtype nor device."
            )
        return onnx.from_pretrained(model)
    network: Any = load_model(model, role="model", args=running.loading, head=head)
    cast = {"dtype": getattr(torch, dtype)}
    if keeps_dtype(network):
        if dtype != "float32":
            method = QuantizationMethod(network.quantization_method).value
            raise UserError(
                f"{model} is quantised by {method}, which computes in the dtype of its loading; "
                "leave dtype out."
            )
        cast = {}
    try:
        return network.to(device=device or _accelerator(), **cast).eval()
    except (AssertionError, RuntimeError) as error:  # of torch
        if device is None:
            raise
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(f"device {device!r} cannot be used: {reason}.") from error


def logits_of(network: Any, encoded: Mapping[str, Tensor]) -> Tensor:
    """The logits of a batch, float32 on the CPU. The network gets the part of the batch that it reads.

    Args:
        network: of `answering_network`.
        encoded: the tokens of texts, as a tokenizer returns them.

    Raises:
        UserError: the logits of a text, or of a token that is no padding, have NaN.
    """
    accepted = inspect.signature(network.forward).parameters
    inputs = {k: v.to(network.device) for k, v in encoded.items() if k in accepted}
    with torch.inference_mode():
        logits: Tensor = network(**inputs).logits.float().cpu()
    bad = logits.amax(dim=-1).isnan()  # (B,), or (B, T) of tokens
    mask = encoded.get("attention_mask")
    if mask is not None and mask.shape == bad.shape:
        bad &= mask.cpu().bool()
    check_numbers(int(bad.view(len(bad), -1).any(dim=1).sum()), len(bad), "texts", "outputs")
    return logits


def first_output(logits: Any) -> Tensor:
    """The logits of a model that may return more than these, as ``preprocess_logits_for_metrics`` gets them."""
    found: Tensor = logits[0] if isinstance(logits, tuple) else logits
    return found


def _accelerator() -> str:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else str(found)
