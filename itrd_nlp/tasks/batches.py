"""Features of texts in the order of their length, and their batches, for tasks that pad them themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.lengths import PADDED_TO

TOKENS = ("input_ids", "token_type_ids")
"""The columns of a tokenizer that a feature has. The padding makes the mask."""


def longest_first(columns: Mapping[str, Sequence[Any]]) -> tuple[Dataset, list[int]]:
    """Sort features by their length, so that batches need little padding.

    Args:
        columns: ``input_ids`` and others, of equal length.

    Returns:
        The features, the longest first, with a column ``length``; and for each of them its place in the columns.
    """
    lengths = [len(ids) for ids in columns["input_ids"]]
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    sized = {**columns, "length": lengths}
    return (
        Dataset.from_dict({k: [values[i] for i in order] for k, values in sized.items()}),
        order,
    )


@dataclass(frozen=True)
class PairCollator:
    """Pads features to a batch of pairs ``(N, L)``. Those of lists lie one list after the other.

    Labels that are lists become ``(Q, P)`` with `IGNORED` where a list is shorter, and so do the ``scores``. A number a
    row stays one. They come first in the batch: its rows are counted by its first tensor, and a row is a query.

    Attributes:
        tokenizer: pads.
    """

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch: dict[str, torch.Tensor] = {}
        lists = bool(rows) and isinstance(rows[0]["input_ids"][0], list)
        labels = [row["labels"] for row in rows if "labels" in row]
        if labels:
            of_lists = isinstance(labels[0], list)
            batch |= _of_lists(labels) if of_lists else {"labels": torch.tensor(labels)}
        names = [name for name in TOKENS if name in rows[0]]
        flat = [
            {name: row[name][i] for name in names} if lists else {name: row[name] for name in names}
            for row in rows
            for i in range(len(row["input_ids"]) if lists else 1)
        ]
        padded = self.tokenizer.pad(flat, pad_to_multiple_of=PADDED_TO, return_tensors="pt")
        return batch | dict(padded)


def _of_lists(rows: Sequence[Any]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    shape = (len(rows), longest)
    with_scores = isinstance(rows[0][0], list)
    labels, scores = torch.full(shape, float(IGNORED)), torch.zeros(shape)
    for i, row in enumerate(rows):
        values = torch.tensor(row, dtype=torch.float32)
        labels[i, : len(row)] = values[:, 0] if with_scores else values
        if with_scores:
            scores[i, : len(row)] = values[:, 1]
    return {"labels": labels, "scores": scores} if with_scores else {"labels": labels}
