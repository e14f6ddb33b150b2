"""How many tokens of a text a model reads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import BertForSequenceClassification, BertTokenizer, RobertaTokenizer

from itrd_nlp.errors import UserError
from itrd_nlp.models.options import LoadingArguments, Running
from itrd_nlp.tasks.embedding.arguments import EncodedArguments
from itrd_nlp.tasks.embedding.prediction import Encoder
from itrd_nlp.tasks.lengths import prepare_reading, trained_length
from itrd_nlp.tasks.reranking.arguments import QueryArguments
from itrd_nlp.tasks.reranking.prediction import Ranker

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


@pytest.mark.parametrize(("stored", "read"), [(24, 24), (1024, 1024), (8192.0, 8192), (None, 512)])
def test_a_stored_length_is_that_of_the_training(stored: Any, read: int) -> None:
    told = {} if stored is None else {"model_max_length": stored}
    assert trained_length(BertTokenizer(**told)) == read


@pytest.mark.parametrize("kind", ["reranker", "embedder"])
def test_a_prediction_reads_as_much_as_the_training(
    make_config: Any, tmp_path: Path, kind: str
) -> None:
    config = make_config(1, vocab_size=5, max_position_embeddings=1024, num_labels=1)
    model = BertForSequenceClassification(config)
    (model if kind == "reranker" else model.bert).save_pretrained(tmp_path)
    BertTokenizer(model_max_length=1024).save_pretrained(tmp_path)
    running = Running(loading=LoadingArguments())
    answerer: Any = (
        Ranker(str(tmp_path), QueryArguments(), running)
        if kind == "reranker"
        else Encoder(str(tmp_path), EncodedArguments(), running)
    )
    assert answerer.longest == 1024


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
