"""How many tokens of a text a model reads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import BertTokenizer, RobertaTokenizer

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lengths import prepare_reading

BERT = BertTokenizer()
ROBERTA = RobertaTokenizer()
CONFIG = SimpleNamespace(max_position_embeddings=512, pad_token_id=0)


@pytest.mark.parametrize(
    ("asked", "positions", "pad_token_id", "read"),
    [
        (384, 512, 0, 384),
        (512, 512, 0, 512),
        (384, 64, 0, 64),
        (64, 60, 0, 56),  # batches are as long as a multiple of 8
        (512, 514, 1, 512),  # RoBERTa counts from 2
        (514, 514, 1, 512),
        (384, None, 0, 384),
    ],
)
def test_no_text_is_longer_than_the_model_can_read(
    asked: int, positions: int | None, pad_token_id: int, read: int
) -> None:
    config = SimpleNamespace(max_position_embeddings=positions, pad_token_id=pad_token_id)
    assert prepare_reading(asked, config, BERT) == read


def test_padding_stands_behind_the_text_where_it_moves_no_token() -> None:
    tokenizer = BertTokenizer(padding_side="left")
    prepare_reading(32, CONFIG, tokenizer)
    ids = tokenizer(["", "a b c d"], padding=True)["input_ids"]
    assert [row[0] for row in ids] == [tokenizer.cls_token_id] * 2


@pytest.mark.parametrize(("tokenizer", "least"), [(BERT, 4), (ROBERTA, 5)])
def test_a_length_that_leaves_no_token_for_a_text_is_refused(tokenizer: Any, least: int) -> None:
    assert prepare_reading(least, CONFIG, tokenizer) == least
    for length in range(1, least):
        with pytest.raises(
            UserError, match=f"max_length is {length}, but must be at least {least}:"
        ):
            prepare_reading(length, CONFIG, tokenizer)
