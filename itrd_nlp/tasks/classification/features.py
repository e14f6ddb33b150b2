"""Labelled texts and tokens as what a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import (
    BatchEncoding,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.tokenizing import check_words
from itrd_nlp.tasks.classification.data import is_tokens, kind_of, label_names
from itrd_nlp.tasks.classification.entities import inside_tag
from itrd_nlp.tasks.lengths import PADDED_TO
from itrd_nlp.tasks.lines import Row


def classification_features(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    label2id: Mapping[str, int],
    *,
    max_length: int = 384,
    all_parts: bool = False,
) -> Dataset:
    """Tokenise labelled texts or tokens.

    Args:
        rows: as `read_rows` returns them.
        tokenizer: a fast one, where rows have tokens.
        label2id: every label that may occur.
        max_length: tokens of the model at most; what is longer loses its end.
        all_parts: whether the later parts of a word have its label, too; ``I-`` after ``B-``.

    Returns:
        `input_ids`, what else the tokenizer makes, `length`, and the label. `label` is an id of a label, a number or,
        for labels that may hold together 1 or 0 for each label of the model. `labels` of tokens has a label for
        the first part of each word and -100 (left out) for all else.

    Raises:
        UserError: a label is not in `label2id`, or the tokenizer is a slow one and rows have tokens.
    """
    kind = kind_of(rows)
    unknown = set(label_names(rows)) - label2id.keys()
    if unknown and kind != "value":
        raise UserError(
            f"label {min(unknown)!r} is in the data and not known to the model or the training data, which have "
            f"{', '.join(label2id)}."
        )
    encoded = encode(rows, tokenizer, max_length)
    columns = dict(encoded)
    if kind == "tokens":
        columns["labels"] = [
            _aligned(encoded.word_ids(i), row["labels"], label2id, all_parts)
            for i, row in enumerate(rows)
        ]
    elif kind == "labels":
        columns["label"] = [[float(name in row["labels"]) for name in label2id] for row in rows]
    else:
        columns["label"] = [
            row["label"] if kind == "value" else label2id[row["label"]] for row in rows
        ]
    columns.pop("attention_mask", None)  # the collator's padding makes it
    columns["length"] = [len(ids) for ids in columns["input_ids"]]
    return Dataset.from_dict(columns)


def collator(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase
) -> DataCollatorWithPadding | DataCollatorForTokenClassification:
    """Pads batches of `classification_features` to a multiple of 8."""
    kind = DataCollatorForTokenClassification if is_tokens(rows) else DataCollatorWithPadding
    return kind(tokenizer, pad_to_multiple_of=PADDED_TO)


def encode(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int, **settings: Any
) -> BatchEncoding:
    """Tokenise rows of one kind, with or without labels.

    Args:
        rows: texts, pairs of texts or lists of words.
        tokenizer: a fast one, where rows have tokens.
        max_length: tokens of the model at most; what is longer loses its end.
        settings: for the tokenizer, such as ``padding``.

    Raises:
        UserError: the tokenizer is a slow one, and rows have tokens.
    """
    encoded: BatchEncoding
    settings |= {"truncation": True, "max_length": max_length}
    if is_tokens(rows):
        check_words(tokenizer)
        encoded = tokenizer([row["tokens"] for row in rows], is_split_into_words=True, **settings)
        return encoded
    # A text without a second one is read alone, so that it has the same label whatever stands beside it.
    texts = [
        row["text"] if row.get("text_pair") is None else (row["text"], row["text_pair"])
        for row in rows
    ]
    encoded = tokenizer(texts, **settings)
    return encoded


def first_parts(words: Sequence[int | None]) -> dict[int, int]:
    """The position of the first part of each word that a model reads.

    A word has none where it was cut off with the end of the text, or where the tokenizer makes nothing of it, as of a
    character that nobody sees.

    Args:
        words: for each token of the model the number of its word, as `BatchEncoding.word_ids` returns them.
    """
    first: dict[int, int] = {}
    for position, word in enumerate(words):
        if word is not None:
            first.setdefault(word, position)
    return first


def judged_positions(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[list[int | None]] | None:
    """For each row the position of each judged token, None of one that a model does not read; None for texts."""
    if not is_tokens(rows):
        return None
    encoded = encode(rows, tokenizer, max_length)
    positions = [first_parts(encoded.word_ids(i)) for i in range(len(rows))]
    return [
        [first.get(word) for word, label in enumerate(row["labels"]) if label is not None]
        for row, first in zip(rows, positions, strict=True)
    ]


def _aligned(
    words: list[int | None],
    labels: Sequence[str | None],
    label2id: Mapping[str, int],
    all_parts: bool,
) -> list[int]:
    """A label for the first part of each word, or for all; `IGNORED` for special tokens and words not judged."""
    aligned = [IGNORED] * len(words)
    first = first_parts(words)
    for position, word in enumerate(words):
        label = None if word is None else labels[word]
        if word is None or label is None:
            continue
        if position == first[word]:
            aligned[position] = label2id[label]
        elif all_parts:
            aligned[position] = label2id[inside_tag(label, label2id)]
    return aligned
