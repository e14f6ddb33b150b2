"""The precision of a training, and whether a CPU has instructions for bf16."""

from __future__ import annotations

import platform

import torch

PRECISIONS = {"no": "fp32", "bf16": "bf16", "fp16": "fp16", "fp8": "fp8"}
"""The names that accelerate gives to precisions, and those of a record."""


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies matrices in bf16 by instructions of its own.

    With them products in bf16 take 0.2 to 1 times as long as in fp32, without them 20 times or more. The CPU is asked,
    because a measurement differs from process to process on a busy machine.
    """
    if not torch.backends.mkldnn.is_available():  # nothing else has fast products in bf16
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported())  # a CPU with AMX has these, too
    # On ARM the operator asks for the instructions. On x86 it is content with those that emulate bf16.
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
