"""Start and end logits of several models on the same windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from itrd_nlp.tasks.jobs.speed import AnyModel, Collator, ModelLogits, model_logits


class SpanLogits(NamedTuple):
    """The logits of a model for all windows.

    Attributes:
        start: `(N, L)` float32, one row a window in the order of the features, 0 behind the end of a batch.
        end: `(N, L)`.
        seconds: spent in the model, from the batch to the logits in the memory of the CPU.
    """

    start: npt.NDArray[np.float32]
    end: npt.NDArray[np.float32]
    seconds: float


def _of_spans(logits: ModelLogits) -> SpanLogits:
    starts, ends = logits.values
    return SpanLogits(starts, ends, logits.seconds)


def span_logits(
    models: Mapping[str, AnyModel], features: Dataset, collator: Collator, *, batch_size: int = 32
) -> dict[str, SpanLogits]:
    """`model_logits` of span heads.

    Example:
        >>> logits = span_logits({"student": model}, data.features, collator(tokenizer))  # doctest: +SKIP
        >>> data.metrics(EvalPrediction(logits["student"][:2], label_ids=None))  # doctest: +SKIP
    """
    found = model_logits(models, features, collator, batch_size=batch_size)
    return {name: _of_spans(logits) for name, logits in found.items()}
