"""How many tokens of a text a model reads, and how long a batch is."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from itrd_nlp.errors import UserError

PADDED_TO = 8  # batches are as long as a multiple of it
_UNKNOWN = 512  # tokens that a model reads where its tokenizer names no number


def trained_length(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokens of a text in the training, as the tokenizer of a reranker or an embedder was told them.

    Args:
        tokenizer: of the model.

    Returns:
        Its ``model_max_length``; 512 where it has none, for which transformers puts a number of 31 digits.
    """
    stored = tokenizer.model_max_length
    return _UNKNOWN if stored >= VERY_LARGE_INTEGER else int(stored)


def prepare_reading(max_length: int, config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Let a tokenizer pad on the right, and return the tokens that its model reads at most.

    A label, a mask and the first token have their places in the text. Padding on the left would move them, each text
    by another number of places. The side is saved with the tokenizer, so that every later reader has the same one.

    Args:
        max_length: the tokens that were asked for.
        config: of the model.
        tokenizer: of the model. Its ``padding_side`` becomes ``right``.

    Returns:
        ``max_length``, or fewer where the model has no more positions.

    Raises:
        UserError: ``max_length`` leaves no token for a text. A tokenizer would then cut nothing.
    """
    added = tokenizer.num_special_tokens_to_add(pair=True)
    if max_length <= added:
        raise UserError(
            f"max_length is {max_length}, but must be at least {added + 1}: the tokenizer adds {added} tokens to two "
            "texts."
        )
    tokenizer.padding_side = "right"
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return max_length
    # RoBERTa and its kin, all of which pad with 1, count positions from 2.
    positions -= 2 if config.pad_token_id == 1 else 0
    padded = -(-max_length // PADDED_TO) * PADDED_TO
    return max_length if padded <= positions else max(1, positions // PADDED_TO * PADDED_TO)
