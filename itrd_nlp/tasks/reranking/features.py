"""Queries and passages as what a model reads: single pairs to judge, and lists of pairs to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import BatchEncoding, PreTrainedTokenizerBase

from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.lengths import PADDED_TO
from itrd_nlp.tasks.reranking.data import Row

_TOKENS = ("input_ids", "token_type_ids")


def encode(
    pairs: Sequence[tuple[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    **settings: Any,
) -> BatchEncoding:
    """Tokenise queries with passages, as sentence-transformers' CrossEncoder does: the longer one is cut first."""
    queries, passages = zip(*pairs, strict=True)
    settings |= {"truncation": "longest_first", "max_length": max_length}
    encoded: BatchEncoding = tokenizer(list(queries), list(passages), **settings)
    return encoded


def pairs_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Every query with each of its passages, in the order of the rows."""
    return [(row["query"], passage) for row in rows for passage in row["passages"]]


def pair_features(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[Dataset, list[int]]:
    """One feature a pair, the longest first.

    Args:
        rows: as `read_queries` returns them, with labels.
        tokenizer: of the model.
        max_length: tokens of a pair at most.

    Returns:
        The features with ``input_ids``, what else the tokenizer makes, ``labels`` and ``example_id``, the number of the
        query; and for each of them its place among `pairs_of` the rows.
    """
    encoded = encode(pairs_of(rows), tokenizer, max_length)
    columns = {name: encoded[name] for name in _TOKENS if name in encoded}
    columns["labels"] = [label for row in rows for label in row["labels"]]
    columns["example_id"] = [str(i) for i, row in enumerate(rows) for _ in row["passages"]]
    return longest_first(columns)


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


def list_features(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int, *, scores: bool
) -> Dataset:
    """One feature a query, whose columns are lists with an entry for each passage.

    ``labels`` has the label of each passage, 0 where a query has no labels; with ``scores`` it has pairs of label and
    teacher's score, because a trainer keeps no column that the model does not know. ``length`` is the longest pair's.
    """
    encoded = encode(pairs_of(rows), tokenizer, max_length)
    names = [name for name in _TOKENS if name in encoded]
    columns: dict[str, list[Any]] = {name: [] for name in (*names, "labels", "length")}
    begin = 0
    for row in rows:
        end = begin + len(row["passages"])
        for name in names:
            columns[name].append(encoded[name][begin:end])
        labels = row["labels"] or [0.0] * len(row["passages"])
        given = (
            [list(pair) for pair in zip(labels, row["scores"], strict=True)] if scores else labels
        )
        columns["labels"].append(given)
        columns["length"].append(max(map(len, columns["input_ids"][-1])))
        begin = end
    return Dataset.from_dict(columns)


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
        names = [name for name in _TOKENS if name in rows[0]]
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
