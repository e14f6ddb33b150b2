"""How many tokens of a text a model reads, and how long a batch is."""

from __future__ import annotations

import logging

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from itrd_nlp.errors import UserError
from itrd_nlp.models.lengths import longest_input
from itrd_nlp.models.onnx_model import OnnxModel

logger = logging.getLogger(__name__)

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


def prepare_reading(
    max_length: int, model: PreTrainedModel | OnnxModel, tokenizer: PreTrainedTokenizerBase
) -> int:
    """Let a tokenizer pad on the right, and return the tokens that its model reads at most.

    A label, a mask and the first token have their places in the text. Padding on the left would move them, each text
    by another number of places. The side is saved with the tokenizer, so that every later reader has the same one.

    Args:
        max_length: the tokens that were asked for.
        model: the model.
        tokenizer: of the model. Its ``padding_side`` becomes ``right``.

    Returns:
        ``max_length``, or fewer, with a warning, where the model has no more positions.

    Raises:
        UserError: ``max_length`` leaves no token for a text, so that a tokenizer would cut nothing; or the tokenizer
            has no padding token.
    """
    added = tokenizer.num_special_tokens_to_add(pair=True)
    if max_length <= added:
        raise UserError(
            f"max_length is {max_length}, but must be at least {added + 1}: the tokenizer adds {added} tokens to two "
            "texts."
        )
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path or 'the model'} has no padding token, which batches of texts "
            "need; set one, such as tokenizer.pad_token = tokenizer.eos_token, and save it by save_pretrained."
        )
    tokenizer.padding_side = "right"
    most = longest_input(model)
    padded = -(-max_length // PADDED_TO) * PADDED_TO
    if most is None or padded <= most:
        return max_length
    read = max(1, most // PADDED_TO * PADDED_TO)
    if read < max_length:
        logger.warning(
            "max_length is %d, but the model takes %d tokens, so texts are cut after %d.",
            max_length,
            most,
            read,
        )
    return read
