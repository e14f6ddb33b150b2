"""What every training of this package needs of ``transformers.Trainer``, with or without a teacher."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroupedSampler(Sampler[int]):
    """Batches of similar length, in an order that depends on the seed and the epoch alone.

    transformers' sampler draws from torch's global generator, so its order depends on whatever drew before; this one
    gives the same batches after a restart.

    Args:
        lengths: tokens of each example.
        batch_size: examples that are to be of similar length.
        seed: of the order.
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


class BaseTrainer(Trainer):
    """``transformers.Trainer`` that groups training batches by length and evaluates in the order of the data set.

    transformers shuffles the evaluation set too when it groups by length; predictions would then not line up with the
    examples they belong to.
    """

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        args = self.args
        columns = getattr(self.train_dataset, "column_names", None) or []
        if (
            args.train_sampling_strategy != "group_by_length"
            or args.length_column_name not in columns
        ):
            return super()._get_train_sampler(train_dataset)
        return LengthGroupedSampler(
            list(self.train_dataset[args.length_column_name]),
            args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            args.seed if args.data_seed is None else args.data_seed,
        )

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None
