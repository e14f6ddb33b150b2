"""Whether bf16 pays on this machine's CPU."""

from __future__ import annotations

import functools
import time

import torch

# With instructions for bf16 its products take 0.2 to 1 times as long as those of fp32, without them 20 times or more.
SLOW = 4.0
PRECISIONS = {"no": "fp32", "bf16": "bf16", "fp16": "fp16", "fp8": "fp8"}
_SIZE = 192
_TRIES = 3


@functools.cache
def slow_bf16_factor() -> float | None:
    """How many times slower than fp32 this CPU multiplies matrices in bf16, None where it does not matter.

    It is measured, once a process and in some milliseconds: which instructions make bf16 fast differs between
    architectures and between versions of PyTorch.

    Returns:
        The factor where it is above 4, else None.
    """
    factor = _seconds(torch.bfloat16) / _seconds(torch.float32)
    return factor if factor > SLOW else None


def _seconds(dtype: torch.dtype) -> float:
    """The shortest time of a few products of square matrices, after one that is not counted."""
    matrix = torch.ones(_SIZE, _SIZE, dtype=dtype)
    times = []
    for _ in range(_TRIES + 1):
        began = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - began)
    return min(times[1:])
