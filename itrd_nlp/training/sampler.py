"""The order in which examples are drawn."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroupedSampler(Sampler[int]):
    """Batches of similar length, in an order that depends on the seed and the epoch alone.

    transformers' sampler draws from torch's global generator, so its order depends on all earlier draws. This one gives
    the same batches after a restart.

    Args:
        lengths: number of tokens of each example.
        batch_size: number of examples that are to be of similar length.
        seed: seed of the order.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))
