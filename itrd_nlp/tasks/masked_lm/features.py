"""Plain text as what a model reads: pieces of texts, and their masks.

A text that is too long is cut into pieces. Pieces of several texts are not packed into one, because a model that is
fine-tuned later reads one text at a time, and because batches of equal length (``group_by_length``) leave little
padding to save.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.masked_lm import POSITIONS
from itrd_nlp.tasks.batches import TOKENS, longest_first
from itrd_nlp.tasks.lengths import PADDED_TO
from itrd_nlp.training.epochs import DrawsByEpoch

_AT_ONCE = 1000


@dataclass(frozen=True)
class Pieces:
    """Texts as tokens.

    Attributes:
        columns: ``input_ids`` and perhaps ``token_type_ids`` of each piece.
        texts: number of the text that each piece is of.
    """

    columns: dict[str, list[Any]]
    texts: list[int]


def pieces_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Pieces:
    """Cut texts into pieces of at most so many tokens.

    Args:
        texts: at least one.
        tokenizer: a fast one.
        max_length: tokens of a piece at most, those that begin and end a text included.

    Returns:
        The pieces in the order of the texts. One of nothing but the tokens that begin and end a text is left out.

    Raises:
        UserError: the tokenizer cannot cut texts, or no text has a token.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} is no fast tokenizer, which plain text needs to be cut into pieces."
        )
    columns: dict[str, list[Any]] = {}
    numbers: list[int] = []
    for begin in range(0, len(texts), _AT_ONCE):
        encoded = tokenizer(
            list(texts[begin : begin + _AT_ONCE]),
            truncation=True,
            max_length=max_length,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        arrays = {
            # Lists of Python's numbers take ten times the memory.
            name: [np.asarray(ids, dtype=np.int32) for ids in encoded[name]]
            for name in TOKENS
            if name in encoded
        }
        told = [not all(mask) for mask in encoded["special_tokens_mask"]]
        for name, values in arrays.items():
            columns.setdefault(name, []).extend(itertools.compress(values, told))
        found = (begin + i for i in encoded["overflow_to_sample_mapping"])
        numbers += itertools.compress(found, told)
    if not numbers:
        raise UserError("the tokenizer finds no token in any text, so there is nothing to read.")
    return Pieces(columns, numbers)


def training_features(pieces: Pieces) -> Dataset:
    """One feature a piece. ``labels`` is a number: `MaskingCollator` draws the masks of each batch."""
    count = len(pieces.texts)
    return Dataset.from_dict(
        pieces.columns
        | {"labels": [0] * count, "length": [len(ids) for ids in pieces.columns["input_ids"]]}
    )


@dataclass(frozen=True)
class Masks:
    """The masked tokens of a piece.

    Attributes:
        text: number of the text that it is of.
        positions: places of the masked tokens.
        true: their ids.
    """

    text: int
    positions: list[int]
    true: list[int]


def evaluation_features(pieces: Pieces, masker: Masker) -> tuple[Dataset, list[int], list[Masks]]:
    """Mask pieces once and for all, the same tokens for every model that shares the tokenizer.

    Args:
        pieces: of the texts.
        masker: chooses the tokens.

    Returns:
        The features, the longest first, whose ``labels`` are the true ids of masked tokens and `IGNORED` elsewhere; for
        each of them its place among the pieces; and the masks of the pieces.

    Raises:
        UserError: no token is masked.
    """
    columns = {name: list(values) for name, values in pieces.columns.items()}
    columns["labels"], masks = [], []
    for i, number in enumerate(pieces.texts):
        ids = torch.from_numpy(columns["input_ids"][i].astype(np.int64))[None]
        masked, labels = masker(ids, shown=False)
        columns["input_ids"][i] = masked[0].numpy().astype(np.int32)
        columns["labels"].append(labels[0].numpy().astype(np.int32))
        positions = labels[0].ne(IGNORED).nonzero().squeeze(1)
        masks.append(Masks(number, positions.tolist(), labels[0][positions].tolist()))
    if not any(mask.positions for mask in masks):
        raise UserError(
            "no token of the evaluation is masked, so that nothing judges a model; give more text, or a larger "
            "mlm_probability."
        )
    columns["example_id"] = [str(number) for number in pieces.texts]
    features, order = longest_first(columns)
    return features, order, masks


@dataclass(frozen=True)
class Masker:
    """Masks tokens by the rule of `transformers.DataCollatorForLanguageModeling`, in a way that can be repeated.

    The draw depends on the tokens, those of a whole batch in training, and on the numbers that are given beside them. A
    resumed run masks what the run without a break would have masked.

    Attributes:
        tokenizer: has a mask token.
        probability: share of the tokens that are masked.
    """

    tokenizer: PreTrainedTokenizerBase
    probability: float

    def __call__(
        self, ids: Tensor, *, shown: bool = True, numbers: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        """Return the ids with masks ``(B, L)``, and the labels ``(B, L)``, `IGNORED` where a token is not masked.

        Args:
            ids: ``(B, L)``. Special tokens and padding are never masked.
            shown: whether one of ten masked tokens is replaced by another, and one of ten stays, as in a training.
                Default: true.
            numbers: other numbers draw other masks for the same ids. Default: none.
        """
        collator: Any = DataCollatorForLanguageModeling(
            self.tokenizer,
            mlm_probability=self.probability,
            mask_replace_prob=0.8 if shown else 1.0,
            random_replace_prob=0.1 if shown else 0.0,
        )
        digest = hashlib.blake2b(np.asarray(ids.shape).tobytes(), digest_size=8)
        digest.update(ids.contiguous().numpy().tobytes())
        digest.update(np.asarray(numbers, dtype=np.int64).tobytes())
        seed = int.from_bytes(digest.digest(), "little") >> 1  # torch takes 63 bits
        collator.generator = torch.Generator().manual_seed(seed)
        special = torch.isin(ids, torch.tensor(self.tokenizer.all_special_ids))
        masked, labels = collator.torch_mask_tokens(ids.clone(), special_tokens_mask=special)
        return masked, labels


def _shared_numbers() -> Tensor:
    """Seed and epoch, in memory that is shared with workers which a data loader keeps from epoch to epoch."""
    numbers: Tensor = torch.zeros(2, dtype=torch.int64)
    numbers.share_memory_()
    return numbers


@dataclass(frozen=True)
class MaskingCollator(DrawsByEpoch):
    """Pads features to a batch, and masks those of a training.

    Rows without ``labels`` are read as they are. A list of labels says which tokens were masked before. A number is
    that of a training, whose masks are drawn for the batch, other ones for each seed and epoch. Each batch with labels
    has `POSITIONS`, which tell a model where logits are needed.

    Attributes:
        masker: draws the masks.
    """

    masker: Masker
    _drawn_by: Tensor = field(default_factory=_shared_numbers, repr=False, compare=False)

    def begin_epoch(self, seed: int, epoch: int) -> None:
        """See `DrawsByEpoch`."""
        self._drawn_by[:] = torch.tensor([seed, epoch])

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = padded(rows, self.masker.tokenizer)
        if "labels" not in rows[0]:
            return batch
        ids = batch["input_ids"]
        if isinstance(rows[0]["labels"], Sequence):
            labels = torch.full_like(ids, IGNORED)
            for row, own, valid in zip(rows, labels, batch["attention_mask"], strict=True):
                own[valid.bool()] = torch.tensor(row["labels"])  # whichever side is padded
        else:
            batch["input_ids"], labels = self.masker(ids, numbers=self._drawn_by.tolist())
        return batch | {
            "labels": labels,
            POSITIONS: labels.flatten().ne(IGNORED).nonzero().squeeze(1),
        }


def padded(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """The tokens of rows as a batch, as long as a multiple of 8."""
    names = [name for name in TOKENS if name in rows[0]]
    tokens = [{name: row[name] for name in names} for row in rows]
    return dict(tokenizer.pad(tokens, pad_to_multiple_of=PADDED_TO, return_tensors="pt"))


def batches(rows: Dataset, size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of a data set, so many at a time."""
    for begin in range(0, len(rows), size):
        yield rows.select(range(begin, min(begin + size, len(rows)))).to_list()
