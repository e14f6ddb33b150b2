"""Windows of questions as a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lengths import PADDED_TO


class QuestionAnsweringCollator:
    """Pad windows to the longest of a batch.

    Args:
        tokenizer: gives the id that pads.
        pad_to_multiple_of: pad to a multiple of this length.
        most: the tokens that the model takes, which a batch never exceeds by its padding. Default: any number.

    Returns:
        When called with a list of rows: the tensors `input_ids`, `attention_mask` and, where the
        rows have them, `token_type_ids` (all `(B, L)`), `start_positions` and `end_positions`
        (`(B,)`), all int64. Other columns are dropped.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        pad_to_multiple_of: int = PADDED_TO,
        *,
        most: int | None = None,
    ) -> None:
        if pad_to_multiple_of < 1:
            raise UserError(f"pad_to_multiple_of is {pad_to_multiple_of}, but must be at least 1.")
        if tokenizer.pad_token_id is None:
            raise UserError("The tokenizer has no padding token.")
        self.pad_to_multiple_of, self.most = pad_to_multiple_of, most
        self._pad_values = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
        }

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = np.array([len(row["input_ids"]) for row in rows])
        longest = -(-lengths.max() // self.pad_to_multiple_of) * self.pad_to_multiple_of
        if self.most is not None:  # longer windows are refused before, see `check_lengths`
            longest = max(lengths.max(), min(longest, self.most))
        mask = np.arange(longest) < lengths[:, None]
        batch = {"attention_mask": torch.from_numpy(mask.astype(np.int64))}
        for name, value in self._pad_values.items():
            if name in rows[0]:
                padded = np.full(mask.shape, value, dtype=np.int64)
                padded[mask] = np.concatenate([row[name] for row in rows])
                batch[name] = torch.from_numpy(padded)
        for name in ("start_positions", "end_positions"):
            if name in rows[0]:
                batch[name] = torch.tensor([int(row[name]) for row in rows])
        return batch
