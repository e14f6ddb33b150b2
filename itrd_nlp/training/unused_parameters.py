"""Whether a step leaves trainable parameters without a gradient, which DDP must know before it begins."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


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
        with _same_random_numbers():
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


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
