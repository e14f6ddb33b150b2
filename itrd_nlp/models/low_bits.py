"""Quantisation-aware training (QAT): train a model whose repeated layers read their weights in few bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itrd_nlp.errors import UserError


def fake_quantise(weight: Tensor, bits: int) -> Tensor:
    """Round weights to the values that ``bits`` bits can tell apart, output by output.

    With one bit a row ``w`` becomes ``mean|w| sign(w)`` (Rastegari et al., "XNOR-Net", 2016). With more bits it becomes
    ``s round(w / s)`` with ``s = max|w| / (2^(bits - 1) - 1)``. Rounding a second time changes nothing but the last
    digit. The gradient passes as if nothing had been rounded (the straight-through estimator of Bengio et al.,
    arXiv:1308.3432).

    Args:
        weight: ``(outputs, ...)``. A row holds all weights of one output.
        bits: from 1 to 8.

    Returns:
        The rounded weights, of the shape and type of ``weight``.
    """
    return _rounded(weight, bits)


def row_steps(weight: Tensor, bits: int) -> Tensor | None:
    """Return the step between the values of each row of a weight that was trained in few bits.

    Such a weight is a whole number of steps everywhere, so a format with one scale for each row holds it as it is.

    Args:
        weight: ``(outputs, inputs)``, as a checkpoint holds it.
        bits: the most bits that it may have been trained in, from 1 to 8.

    Returns:
        ``(outputs, 1)``, above 0. It is None if the weight is not rounded to so few bits.
    """
    largest = weight.abs().amax(1, keepdim=True)
    for few in range(1, bits + 1):
        # The last digit may differ, because a checkpoint may have been rounded more than once.
        if bool(((fake_quantise(weight, few) - weight).abs() <= 1e-5 * largest).all()):
            step = largest / (1 if few == 1 else 2 ** (few - 1) - 1)
            return torch.where(step > 0, step, 1)
    return None


class _StraightThrough(torch.autograd.Function):
    """Round in the forward pass, and hand on the gradient in the backward pass."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: int) -> Tensor:
        rows = tuple(range(1, weight.ndim))
        rounded: Tensor
        if bits == 1:
            scale = weight.abs().mean(rows, keepdim=True)
            rounded = torch.where(weight < 0, -scale, scale)
        else:
            scale = weight.abs().amax(rows, keepdim=True) / (2 ** (bits - 1) - 1)
            rounded = (weight / torch.where(scale > 0, scale, 1)).round() * scale
        return rounded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


_rounded: Callable[[Tensor, int], Tensor] = _StraightThrough.apply


class LowBitLinear(nn.Linear):
    """A linear layer whose product reads its weights in few bits. The parameter itself stays as it learns."""

    bits: int

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, fake_quantise(self.weight, self.bits), self.bias)


class LowBitConv2d(nn.Conv2d):
    """A convolution of images that reads its weights in few bits."""

    bits: int

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self._conv_forward(x, fake_quantise(self.weight, self.bits), self.bias)
        return convolved


_OF_FEW_BITS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: LowBitLinear,
    nn.Conv2d: LowBitConv2d,
}


_WHOLE: dict[type[nn.Module], type[nn.Module]] = {few: whole for whole, few in _OF_FEW_BITS.items()}


def prepare_qat(model: nn.Module, bits: int) -> None:
    """Let the linear layers and convolutions of a model's repeated layers read their weights in few bits.

    Repeated layers are those in a `torch.nn.ModuleList`, as transformers keeps the layers of an encoder and the stages
    of a network for images. Embeddings, pooler and head keep their weights, as is usual. Names and values of the
    parameters stay as they are, so optimizers and checkpoints work with them.

    Args:
        model: changed in place. A second call changes the number of bits.
        bits: from 1 to 8.

    Raises:
        UserError: the model has no such layer.
    """
    found = False
    for stack in model.modules():
        if isinstance(stack, nn.ModuleList):
            for module in stack.modules():
                kind = type(module)
                if kind in _OF_FEW_BITS:
                    module.__class__ = _OF_FEW_BITS[kind]
                if isinstance(module, LowBitLinear | LowBitConv2d):
                    module.bits = bits
                    found = True
    if not found:
        raise UserError(
            f"weight_bits is {bits}, but {type(model).__name__} has no linear layer or convolution in repeated layers; "
            "set weight_bits to 0."
        )


def remove_qat(model: nn.Module) -> None:
    """Let the layers of a model read their weights as they are, the contrary of `prepare_qat`.

    Args:
        model: changed in place.
    """
    for _, layer in low_bit_weights(model):
        module: nn.Module = layer
        module.__class__ = _WHOLE[type(module)]
        del layer.bits


def low_bit_weights(model: nn.Module) -> Iterator[tuple[str, LowBitLinear | LowBitConv2d]]:
    """Yield the name of each weight that is read in few bits, and its layer."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LowBitLinear | LowBitConv2d):
            yield f"{name}.weight", module


def rounded_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model with the weights that its layers read. An ordinary model then computes the same."""
    rounded = {
        name: fake_quantise(layer.weight.detach(), layer.bits)
        for name, layer in low_bit_weights(model)
    }
    return {**model.state_dict(), **rounded}


def megabytes(model: nn.Module) -> float:
    """Return the size of a model in units of 1e6 bytes, stored with as many bits as its layers read.

    A weight of few bits takes these bits, and each of its rows a scale in fp32. Every other parameter takes fp32.
    """
    few = {id(layer.weight): layer.bits for _, layer in low_bit_weights(model)}
    total = 0
    for parameter in model.parameters():
        bits = few.get(id(parameter))
        total += 32 * (parameter.numel() if bits is None else parameter.shape[0])
        total += 0 if bits is None else bits * parameter.numel()
    return total / 8e6
