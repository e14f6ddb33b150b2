"""The generators of random numbers, which a look at a model or at data must leave as they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def same_generators() -> Iterator[Callable[[], bool]]:
    """Give the generators of Python, NumPy and torch on the CPU back as they were.

    Yields:
        A function that tells whether anybody has drawn from one of them.
    """

    def states() -> list[Any]:
        kind, keys, *rest = np.random.get_state(legacy=True)
        return [random.getstate(), kind, np.asarray(keys).tobytes(), rest]

    before, of_numpy, of_torch = states(), np.random.get_state(), torch.get_rng_state()
    try:
        yield lambda: states() != before or not torch.equal(torch.get_rng_state(), of_torch)
    finally:
        random.setstate(before[0])
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
