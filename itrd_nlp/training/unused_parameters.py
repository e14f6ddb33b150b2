"""Whether a step leaves trainable parameters without a gradient, which DDP must know before it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from itrd_nlp.training.generators import same_generators


def unused_parameters(model: nn.Module, loss: Callable[[], Tensor]) -> list[str]:
    """Run one step and return the names of the trainable parameters to which no gradient came.

    The parameters, the buffers (such as the running means of a batch norm) and the generators of random numbers are as
    before, and no gradient is left, also where the step fails.

    Args:
        model: the model, without wrappers.
        loss: computes a loss of the model, a scalar.
    """
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    try:
        with same_generators(), torch.random.fork_rng():
            loss().backward()
        return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, value in model.named_buffers():
                value.copy_(buffers[name])


def drops_layers(config: Any) -> bool:
    """Return whether a configuration leaves out layers at random, so that each step uses other parameters."""
    return any(
        "layerdrop" in name and isinstance(value, int | float) and value > 0
        for name, value in config.to_dict().items()
    )
