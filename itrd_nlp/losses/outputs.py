"""The model outputs that the objective reads. They hold plain tensors, so the losses do not need transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

IGNORED = -100
"""Rows with this label do not count in torch's cross entropy."""
SPAN_LOGITS = ("start_logits", "end_logits")
"""Names of the logits of a span head, one number a token each."""


@dataclass
class AttentionStates:
    """Queries, keys and values of one layer, before the layer splits them into heads.

    Attributes:
        queries: the queries ``(B, L, d)``.
        keys: the keys ``(B, L, d)``.
        values: the values ``(B, L, d)``.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor


@dataclass
class EncoderOutput:
    """The part of a model's output that the objective reads.

    Attributes:
        logits: mapping from the names of the logits to tensors, as the head returns them. A classifier has ``logits``
            of shape ``(B, C)`` or ``(B, L, C)``. A span head has ``start_logits`` and ``end_logits`` of ``(B, L)``.
        hidden_states: mapping from layers to hidden states ``(B, L, d)``. It holds the layers that the caller asked
            for; layer 0 is the output of the embeddings.
        attention: mapping from layers to their queries, keys and values. It is empty unless the caller asked for them.
            Layer 0, the embeddings, has none.
        mask: ``(B, L)``, bool or 0/1, true where a position of the hidden states counts. None if the batch says it, or
            if all positions count, as those of an image do.
        release: whether the objective may take the hidden states out, so that each is freed when its samples are drawn,
            or all of them where all layer pairs are read at once. Default: false.
    """

    logits: dict[str, Tensor]
    hidden_states: dict[int, Tensor]
    attention: dict[int, AttentionStates] = field(default_factory=dict)
    mask: Tensor | None = None
    release: bool = False


class LayerPair(NamedTuple):
    """A student layer and the teacher layer that it learns from.

    Index 0 is the output of the embeddings, and index k is the output of layer k, as in ``hidden_states``.

    Attributes:
        student: layer of the student.
        teacher: layer of the teacher.
    """

    student: int
    teacher: int

    def __str__(self) -> str:
        return f"{self.student}:{self.teacher}"
