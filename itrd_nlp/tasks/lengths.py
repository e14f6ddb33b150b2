"""How many tokens of a text a model reads, and how long a batch is."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from itrd_nlp.errors import UserError

PADDED_TO = 8  # batches are as long as a multiple of it


def read_length(max_length: int, config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokens that a model reads at most: ``max_length``, or fewer where it has no more positions.

    Args:
        max_length: the tokens that were asked for.
        config: of the model.
        tokenizer: of the model.

    Raises:
        UserError: ``max_length`` leaves no token for a text. A tokenizer would then cut nothing.
    """
    added = tokenizer.num_special_tokens_to_add(pair=True)
    if max_length <= added:
        raise UserError(
            f"max_length is {max_length}, but must be at least {added + 1}: the tokenizer adds {added} tokens to two "
            "texts."
        )
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return max_length
    # RoBERTa and its kin, all of which pad with 1, count positions from 2.
    positions -= 2 if config.pad_token_id == 1 else 0
    padded = -(-max_length // PADDED_TO) * PADDED_TO
    return max_length if padded <= positions else max(1, positions // PADDED_TO * PADDED_TO)
