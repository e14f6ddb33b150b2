"""Models whose configuration or tokenizer lacks what that of BERT has, by the commands: padding, or a vocabulary."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    CanineConfig,
    CanineForSequenceClassification,
    CanineTokenizer,
    Gemma3Config,
    Gemma3ForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen3_5Config,
    Qwen3_5ForSequenceClassification,
)
from transformers.utils.generic import find_labels

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from commands import done, refused, write_rows

from itrd_nlp.models.loading import load_model_and_tokenizer
from itrd_nlp.models.options import LoadingArguments

TEXTS = ["a film", "a good film a good film", "bad"]
LABELLED = [{"text": text, "label": f"LABEL_{i % 2}"} for i, text in enumerate(TEXTS)]
QUERIES = [{"query": "film", "passages": TEXTS, "labels": [1, 0, 0]}]
WORDS = ["<end>", "a", "film", "good", "bad", "<unk>"]
SHAPE = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}


def words_of(*special: tuple[str, str]) -> PreTrainedTokenizerFast:
    """A tokenizer of some words, with these special tokens."""
    own = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<end>", **dict(special))


def save_gemma(folder: Path) -> None:
    """A decoder of texts and images, whose configuration has the vocabulary and layers in a part of it."""
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text = size | {"num_hidden_layers": 2, "head_dim": 8, "num_key_value_heads": 1}
    images = size | {"num_hidden_layers": 1, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text | {"vocab_size": 8}, vision_config=images)
    for part in (Gemma3ForSequenceClassification(config), words_of(("pad_token", "<end>"))):
        part.save_pretrained(folder)


def save_qwen(folder: Path) -> None:
    """A head that does not name the labels in its signature, and takes them all the same."""
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    text = size | {"num_hidden_layers": 2, "head_dim": 8, "num_key_value_heads": 1, "vocab_size": 8}
    images = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    kinds = ["full_attention", "full_attention"]
    config = Qwen3_5Config(
        text_config=text | {"layer_types": kinds},
        vision_config=images | {"out_hidden_size": 16},
        pad_token_id=0,
    )
    config.text_config.pad_token_id = 0
    for part in (Qwen3_5ForSequenceClassification(config), words_of(("pad_token", "<end>"))):
        part.save_pretrained(folder)


def save_gpt2(folder: Path, *, labels: int, pads: bool) -> None:
    """As it comes from the Hub: the configuration names no padding, and the tokenizer has one or not."""
    tokenizer = words_of(*({"pad_token": "<end>"} if pads else {}).items())
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=len(WORDS), num_labels=labels, **SHAPE, **ends)
    model = GPT2ForSequenceClassification(config)
    assert model.config.pad_token_id is None
    for part in (model, tokenizer):
        part.save_pretrained(folder)


def save_canine(folder: Path) -> None:
    """A model of characters, which has no table of tokens, and a tokenizer that is no fast one."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    reach = {"local_transformer_stride": 8, "downsampling_rate": 4, "max_position_embeddings": 64}
    config = CanineConfig(**sizes, **reach, intermediate_size=16, num_hash_buckets=64)
    for part in (CanineForSequenceClassification(config), CanineTokenizer()):
        part.save_pretrained(folder)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, ...]]]:
    """For each task a prediction and an evaluation in batches of more than one."""
    monkeypatch.chdir(tmp_path)
    write_rows("texts.jsonl", LABELLED)
    write_rows("queries.jsonl", QUERIES)
    found = {}
    for task, file in (("classification", "texts.jsonl"), ("reranking", "queries.jsonl")):
        shared = ("--model", "model", "--task", task)
        found[task] = [
            ("predict", *shared, "--input", file),
            ("evaluate", *shared, "--validation_file", file),
        ]
    return found


@pytest.mark.parametrize(("task", "labels"), [("classification", 2), ("reranking", 1)])
def test_a_tokenizer_without_a_padding_token_is_refused_in_one_sentence(
    commands: Any, task: str, labels: int
) -> None:
    save_gpt2(Path("model"), labels=labels, pads=False)
    for command in commands[task]:
        assert "the tokenizer of model has no padding token" in refused(*command)


@pytest.mark.parametrize(("task", "labels"), [("classification", 2), ("reranking", 1)])
def test_a_model_learns_from_its_tokenizer_which_token_pads(
    commands: Any, task: str, labels: int
) -> None:
    save_gpt2(Path("model"), labels=labels, pads=True)
    predict, evaluate = commands[task]
    together = [json.loads(line) for line in done(*predict).splitlines()]
    one_by_one = [json.loads(line) for line in done(*predict, "--batch_size", "1").splitlines()]
    assert len(together) == len(one_by_one) > 0
    for batch, alone in zip(together, one_by_one, strict=True):
        scores = [[found["score"] for found in row.get("results", [row])] for row in (batch, alone)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert json.loads(done(*evaluate))["rows"] == len(one_by_one)
    assert AutoConfig.from_pretrained("model").pad_token_id is None  # nothing was written


def test_a_model_of_characters_is_loaded(tmp_path: Path) -> None:
    save_canine(tmp_path)
    head: Any = CanineForSequenceClassification
    model, tokenizer = load_model_and_tokenizer(
        str(tmp_path), role="model", args=LoadingArguments(), head=head
    )
    assert not hasattr(model.config, "vocab_size")
    assert not tokenizer.is_fast


def test_a_model_with_a_part_for_images_labels_texts_and_is_judged(commands: Any) -> None:
    save_gemma(Path("model"))
    predict, evaluate = commands["classification"]
    assert len(done(*predict).splitlines()) == len(TEXTS)
    assert json.loads(done(*evaluate))["layers"] == 2


def test_a_head_that_does_not_name_its_labels_is_judged(commands: Any) -> None:
    assert find_labels(Qwen3_5ForSequenceClassification) == []
    save_qwen(Path("model"))
    _, evaluate = commands["classification"]
    assert json.loads(done(*evaluate))["rows"] == len(LABELLED)


@pytest.mark.slow
def test_a_model_of_characters_labels_texts(commands: Any) -> None:
    save_canine(Path("model"))
    for command in commands["classification"]:
        done(*command)
