"""How many tokens of a text a model reads."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    DebertaV2Config,
    DebertaV2Model,
    Gemma3Config,
    Gemma3ForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.anatomy import layers_of
from itrd_nlp.models.lengths import longest_input
from itrd_nlp.models.onnx_model import OnnxModel
from itrd_nlp.models.options import LoadingArguments, Running
from itrd_nlp.tasks.embedding.arguments import EncodedArguments
from itrd_nlp.tasks.embedding.prediction import TextEncoder
from itrd_nlp.tasks.lengths import prepare_reading, trained_length
from itrd_nlp.tasks.reranking.arguments import QueryArguments
from itrd_nlp.tasks.reranking.prediction import Ranker

BERT = BertTokenizer()
ROBERTA = RobertaTokenizer()
SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
}


def bert(positions: int = 64, **changes: Any) -> PreTrainedModel:
    return BertModel(BertConfig(**SHAPE, max_position_embeddings=positions, **changes))


def deberta(*, table: bool) -> PreTrainedModel:
    """Of the kind of DeBERTa-v3, which knows positions by their distance alone, or with a table of them."""
    config = DebertaV2Config(
        **SHAPE,
        max_position_embeddings=64,
        relative_attention=True,
        position_biased_input=table,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
    )
    return DebertaV2Model(config)


def roberta(pad: int) -> PreTrainedModel:
    return RobertaModel(RobertaConfig(**SHAPE, max_position_embeddings=66, pad_token_id=pad))


def bart() -> PreTrainedModel:
    own = {"encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 64, "d_model": 8}
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    return BartModel(BartConfig(**own, **layers, **heads, max_position_embeddings=64))


@pytest.mark.parametrize(
    ("asked", "model", "read"),
    [
        (32, bert(), 32),
        (64, bert(), 64),
        (1024, bert(), 64),
        (64, bert(60), 56),  # batches are as long as a multiple of 8
        (60, bert(60), 56),
        (384, roberta(0), 64),  # RoBERTa counts positions from the one behind that of the padding
        (384, roberta(1), 64),
        (384, roberta(3), 56),
        (384, bart(), 64),
        (384, deberta(table=True), 64),
        (384, deberta(table=False), 384),
    ],
)
def test_a_text_is_as_long_as_asked_for_or_as_the_model_can_read(
    asked: int, model: PreTrainedModel, read: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "itrd_nlp")
    assert prepare_reading(asked, model, BERT) == read
    assert [f"texts are cut after {read}" in said for said in caplog.messages] == [True] * (
        read < asked
    )
    most = longest_input(model)
    assert most is None or read == min(asked, most // 8 * 8)
    ids = torch.full((1, -(-read // 8) * 8), 7)  # as a batch of the longest text
    assert model.eval()(input_ids=ids).last_hidden_state.shape[1] == ids.shape[1]


def test_the_positions_of_the_part_for_images_are_not_those_of_a_text() -> None:
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text = size | {"vocab_size": 7, "num_hidden_layers": 2, "head_dim": 8, "num_key_value_heads": 1}
    images = size | {"num_hidden_layers": 1, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=images)
    model = Gemma3ForSequenceClassification(config)
    assert prepare_reading(384, model, BERT) == 384
    assert layers_of(model) == 2


@pytest.mark.parametrize("model", [bert(40), roberta(1), roberta(3), bart(), deberta(table=True)])
def test_an_exported_model_reads_as_much_as_the_one_that_was_exported(
    model: PreTrainedModel,
) -> None:
    session: Any = SimpleNamespace(get_inputs=list, get_outputs=list)
    assert longest_input(OnnxModel(session, model.config)) == longest_input(model)


def test_a_tokenizer_without_a_padding_token_is_refused() -> None:
    tokenizer = BertTokenizer()
    tokenizer.pad_token = None
    with pytest.raises(UserError, match="no padding token, which batches of texts need; set one"):
        prepare_reading(32, bert(), tokenizer)


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
        else TextEncoder(str(tmp_path), EncodedArguments(), running)
    )
    assert answerer.longest == 1024


def test_padding_stands_behind_the_text_where_it_moves_no_token() -> None:
    tokenizer = BertTokenizer(padding_side="left")
    prepare_reading(32, bert(), tokenizer)
    ids = tokenizer(["", "a b c d"], padding=True)["input_ids"]
    assert [row[0] for row in ids] == [tokenizer.cls_token_id] * 2


@pytest.mark.parametrize(("tokenizer", "least"), [(BERT, 4), (ROBERTA, 5)])
def test_a_length_that_leaves_no_token_for_a_text_is_refused(tokenizer: Any, least: int) -> None:
    assert prepare_reading(least, bert(), tokenizer) == least
    for length in range(1, least):
        with pytest.raises(
            UserError, match=f"max_length is {length}, but must be at least {least}:"
        ):
            prepare_reading(length, bert(), tokenizer)
