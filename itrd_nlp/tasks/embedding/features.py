"""Texts as what an embedder reads: single ones to judge, and rows of one or two to train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from itrd_nlp.tasks.batches import TOKENS, longest_first
from itrd_nlp.tasks.embedding.data import TrainingTexts


def text_features(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    examples: Sequence[str | None],
) -> tuple[Dataset, list[int]]:
    """One feature a text, the longest first.

    Args:
        texts: to encode.
        tokenizer: of the model.
        max_length: tokens of a text at most.
        examples: of each text the example that has to wait for it; None where none has.

    Returns:
        The features with ``input_ids``, what else the tokenizer makes, ``labels`` and ``example_id``, and for each of
        them its place among the texts. ``labels`` is 0 everywhere: without such a column a trainer would compute no
        metrics.
    """
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)
    columns: dict[str, list[Any]] = {n: encoded[n] for n in TOKENS if n in encoded}
    return longest_first(columns | {"labels": [0.0] * len(texts), "example_id": list(examples)})


def training_features(
    data: TrainingTexts, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Dataset:
    """One feature a row, whose tokens are lists with an entry for each of its texts. ``length`` is the longest's."""
    flat = [text for row in data.rows for text in row]
    encoded = tokenizer(flat, truncation=True, max_length=max_length)
    size = len(data.rows[0])
    columns: dict[str, list[Any]] = {
        name: [encoded[name][i : i + size] for i in range(0, len(flat), size)]
        for name in TOKENS
        if name in encoded
    }
    columns["labels"] = data.labels
    columns["length"] = [max(map(len, row)) for row in columns["input_ids"]]
    return Dataset.from_dict(columns)
