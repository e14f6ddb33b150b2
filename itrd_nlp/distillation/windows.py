"""The windows of a batch: their valid tokens, their keys, and a teacher's output for them as a cache keeps it."""

from __future__ import annotations

import dataclasses
import hashlib

import torch
from torch import Tensor

from itrd_nlp.losses.outputs import SPAN_LOGITS, EncoderOutput

KEY_BYTES = 16


def as_cached(inputs: dict[str, Tensor], output: EncoderOutput) -> EncoderOutput:
    """Return a fresh output as the cache would give it back: rounded, and with zeros in the place of padding.

    So a run learns the same from windows that it computes and from windows that it reads.

    Args:
        inputs: inputs of the teacher: ``input_ids (B, L)``, ``attention_mask (B, L)`` and others.
        output: output of the teacher for these inputs.
    """
    padding = ~valid_tokens(inputs)
    hidden = {
        layer: z.to(torch.bfloat16).masked_fill(padding[..., None], 0)
        for layer, z in output.hidden_states.items()
    }
    logits = dict(output.logits)
    for name, value in logits.items():
        if name in SPAN_LOGITS:
            logits[name] = value.masked_fill(padding, 0)
        elif value.dim() == 3:
            logits[name] = value.masked_fill(padding[..., None], 0)
    return dataclasses.replace(output, logits=logits, hidden_states=hidden)


def row_keys(inputs: dict[str, Tensor]) -> list[bytes]:
    """Return a digest of each row of a batch. It does not depend on the padded length of the batch.

    Args:
        inputs: tensors whose first dimension is the batch. Tensors of ``(B, L)`` and ``(B, L, d)`` count only where the
            attention mask is true.

    Returns:
        One key of `KEY_BYTES` bytes for each row.
    """
    valid = valid_tokens(inputs).cpu()
    values = {name: x.cpu() for name, x in sorted(inputs.items()) if name != "attention_mask"}
    keys = []
    for row, mask in enumerate(valid):
        digest = hashlib.blake2b(digest_size=KEY_BYTES)
        for name, value in values.items():
            # A table of the tokens, such as their boxes (B, L, 4), is padded as they are.
            part = value[row][mask] if value.shape[:2] == valid.shape else value[row]
            digest.update(name.encode())
            # As bytes: NumPy has no bfloat16.
            digest.update(part.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        keys.append(digest.digest())
    return keys


def valid_tokens(inputs: dict[str, Tensor]) -> Tensor:
    """Return where a token is no padding: ``(B, L)``, bool."""
    if "attention_mask" in inputs:
        return inputs["attention_mask"].bool()
    return torch.ones_like(inputs["input_ids"], dtype=torch.bool)
