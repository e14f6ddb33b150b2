"""Windows to measure with: what a step costs depends on how long they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from itrd_nlp.models.loading import LoadingArguments, load_tokenizer
from itrd_nlp.tasks.question_answering import (
    QuestionAnsweringCollator,
    read_squad,
    training_features,
)

TRAIN_FILE = "assets/squad/train-v1.1.json"
TOKENIZER = "assets/minilm-l6"
POOL = 64  # batches from which those that are measured are taken


def squad_batches(batch_size: int, steps: int) -> tuple[Dataset, PreTrainedTokenizerBase]:
    """Windows of the train set in the order of their batches, always the same ones.

    They stand for an epoch of batches that are grouped by length: of 64 batches in the order of their length, the ones
    in the middle of each of ``steps`` parts. The longest comes first.

    Args:
        batch_size: windows in a batch.
        steps: how many batches, at most 64.
    """
    tokenizer = load_tokenizer(TOKENIZER, LoadingArguments())
    count = POOL * batch_size
    examples = read_squad(TRAIN_FILE, split="train", max_samples=count)
    windows = training_features(examples, tokenizer).select(range(count))
    order = np.argsort(np.array(windows["length"][:]), kind="stable")[::-1].reshape(POOL, -1)
    chosen = (np.arange(steps) + 0.5) * POOL / steps
    return windows.select(order[chosen.astype(int)].flatten()), tokenizer


def random_windows(lengths: Sequence[int]) -> Dataset:
    """Windows of random tokens, one of each length given."""
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
    """What the collator asks of a tokenizer."""

    pad_token_id = 0
    pad_token_type_id = 0


def random_collator(pad_to_multiple_of: int = 8) -> QuestionAnsweringCollator:
    """A collator for `random_windows`, which need no tokenizer."""
    return QuestionAnsweringCollator(_Padding(), pad_to_multiple_of=pad_to_multiple_of)
