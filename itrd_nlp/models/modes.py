"""The mode of a model, and its place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for the body, and restore the mode of every module afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def move_to(model: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a model to a device, and return it.

    transformers wraps `nn.Module.to` so that type checkers do not know its arguments any more.
    """
    return model.to(device=device)
