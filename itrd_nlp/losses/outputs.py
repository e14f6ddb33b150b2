"""What the objective reads of a batch and a model: plain tensors, so that the losses need no transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


@dataclass
class AttentionStates:
    """Queries, keys and values of one layer, before they are split into heads.

    Attributes:
        queries: ``(B, L, d)``; `keys` and `values` likewise.
        keys: see there.
        values: see there.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor


@dataclass
class EncoderOutput:
    """What the objective reads of a model's output.

    Attributes:
        logits: name -> tensor, as the head returns them: ``logits`` of ``(B, C)`` or ``(B, L, C)``, or
            ``start_logits`` and ``end_logits`` of ``(B, L)``.
        hidden_states: layer -> ``(B, L, d)``, the layers that were asked for.
        attention: layer -> its queries, keys and values, where they were asked for. Layer 0, the embeddings, has none.
    """

    logits: dict[str, Tensor]
    hidden_states: dict[int, Tensor]
    attention: dict[int, AttentionStates] = field(default_factory=dict)


class LayerPair(NamedTuple):
    """Indices into ``hidden_states``: 0 is the output of the embeddings, k the output of layer k."""

    student: int
    teacher: int

    def __str__(self) -> str:
        return f"{self.student}:{self.teacher}"
