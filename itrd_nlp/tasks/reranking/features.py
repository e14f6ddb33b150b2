"""Queries and passages as what a model reads: single pairs to judge, and lists of pairs to train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import BatchEncoding, PreTrainedTokenizerBase

from itrd_nlp.tasks.batches import TOKENS, longest_first
from itrd_nlp.tasks.lines import Row


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
    columns = {name: encoded[name] for name in TOKENS if name in encoded}
    columns["labels"] = [label for row in rows for label in row["labels"]]
    columns["example_id"] = [str(i) for i, row in enumerate(rows) for _ in row["passages"]]
    return longest_first(columns)


def list_features(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int, *, scores: bool
) -> Dataset:
    """One feature a query, whose columns are lists with an entry for each passage.

    ``labels`` has the label of each passage, 0 where a query has no labels; with ``scores`` it has pairs of label and
    teacher's score, because a trainer keeps no column that the model does not know. ``length`` is the longest pair's.
    """
    encoded = encode(pairs_of(rows), tokenizer, max_length)
    names = [name for name in TOKENS if name in encoded]
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
