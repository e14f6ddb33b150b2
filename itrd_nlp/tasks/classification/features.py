"""Labelled texts and tokens as what a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets import Dataset
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.classification.data import Row, is_tokens, label_names


def classification_features(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    label2id: Mapping[str, int],
    *,
    max_length: int = 384,
) -> Dataset:
    """Tokenise labelled texts or tokens.

    Args:
        rows: as `read_rows` returns them.
        tokenizer: a fast one, where rows have tokens.
        label2id: every label that may occur.
        max_length: tokens of the model at most; what is longer loses its end.

    Returns:
        `input_ids`, what else the tokenizer makes, `length`, and the label: `label`, or `labels` with a label for the
        first part of each word and -100 (left out) for all else.

    Raises:
        UserError: a label is not in `label2id`.
    """
    unknown = set(label_names(rows)) - label2id.keys()
    if unknown:
        raise UserError(
            f"label {min(unknown)!r} is in the data and not known to the model or the training data, which have "
            f"{', '.join(label2id)}."
        )
    if is_tokens(rows):
        encoded = tokenizer(
            [row["tokens"] for row in rows],
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
        )
        columns = dict(encoded)
        columns["labels"] = [
            _aligned(encoded.word_ids(i), row["labels"], label2id) for i, row in enumerate(rows)
        ]
    else:
        pairs = [row.get("text_pair") for row in rows]
        if any(pair is not None for pair in pairs):
            texts = ([row["text"] for row in rows], [pair or "" for pair in pairs])
        else:
            texts = ([row["text"] for row in rows],)
        columns = dict(tokenizer(*texts, truncation=True, max_length=max_length))
        columns["label"] = [label2id[row["label"]] for row in rows]
    columns.pop("attention_mask", None)  # the collator's padding makes it
    columns["length"] = [len(ids) for ids in columns["input_ids"]]
    return Dataset.from_dict(columns)


def collator(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase
) -> DataCollatorWithPadding | DataCollatorForTokenClassification:
    """Pads batches of `classification_features` to a multiple of 8."""
    kind = DataCollatorForTokenClassification if is_tokens(rows) else DataCollatorWithPadding
    return kind(tokenizer, pad_to_multiple_of=8)


def _aligned(
    words: list[int | None], labels: Sequence[str | None], label2id: Mapping[str, int]
) -> list[int]:
    """A label for the first part of each word, `IGNORED` for the others, special tokens and words not judged."""
    aligned, before = [], None
    for word in words:
        label = labels[word] if word is not None and word != before else None
        aligned.append(IGNORED if label is None else label2id[label])
        before = word
    return aligned
