"""Windows for measurements. Their lengths matter, because they determine the time of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from itrd_nlp.models.loading import load_tokenizer
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.question_answering import (
    QuestionAnsweringCollator,
    read_squad,
    training_features,
)

TRAIN_FILE = "assets/squad/train-v1.1.json"
TOKENIZER = "assets/minilm-l6"
POOL = 64
"""Number of batches from which `squad_batches` chooses."""


def squad_batches(batch_size: int, steps: int) -> tuple[Dataset, PreTrainedTokenizerBase]:
    """Choose windows of the train set, always the same ones, in the order of their batches.

    They represent an epoch with batches grouped by length. The function sorts 64 batches by length and divides them
    into ``steps`` parts. It returns the middle batch of each part, with the longest batch first.

    Args:
        batch_size: number of windows in a batch.
        steps: number of batches, at most 64.

    Returns:
        The windows and their tokenizer.
    """
    tokenizer = load_tokenizer(TOKENIZER, LoadingArguments())
    count = POOL * batch_size
    examples = read_squad(TRAIN_FILE, split="train", max_samples=count)
    windows = training_features(examples, tokenizer).select(range(count))
    order = np.argsort(np.array(windows["length"][:]), kind="stable")[::-1].reshape(POOL, -1)
    chosen = (np.arange(steps) + 0.5) * POOL / steps
    return windows.select(order[chosen.astype(int)].flatten()), tokenizer


def random_windows(lengths: Sequence[int]) -> Dataset:
    """Make windows of random tokens, one for each of the given lengths."""
    draw = np.random.default_rng(0)
    rows = [
        {
            "input_ids": draw.integers(1000, 30_000, size=length).tolist(),
            "start_positions": 1,
            "end_positions": 2,
        }
        for length in lengths
    ]
    return Dataset.from_list(rows)


class _Padding:
    """The attributes of a tokenizer that the collator reads."""

    pad_token_id = 0
    pad_token_type_id = 0


def random_collator(pad_to_multiple_of: int = 8) -> QuestionAnsweringCollator:
    """Make a collator for `random_windows`, which needs no tokenizer."""
    return QuestionAnsweringCollator(_Padding(), pad_to_multiple_of=pad_to_multiple_of)
