"""The words of a raw text of which a model finds the entities, also where its tokenizer cuts at spaces alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import (
    PreTrainedTokenizerBase,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
    XLMRobertaTokenizer,
)

sys.path.insert(0, str(Path(__file__).parents[1]))  # test folders are no packages

from commands import done

from itrd_nlp.models.tokenizing import reads_marks_alone, reads_words_apart
from itrd_nlp.tasks.classification.pieces import cut

LABELS = ["O", "B-LOC", "I-LOC"]
TAGS = {"▁Berlin": 1, "▁北": 1, "▁京": 2, "北京": 1, "▁U.S": 1, "▁Köln": 1}
KNOWN = [*TAGS, *"▁.()SU", *(f"▁{one}" for one in ("In", "lies", *".()我住在US")), "▁我住在"]
MARKS = ["-", "▁-", "a", "▁a"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An XLM-R that tags each token by itself, and by nothing else. The long tokens are the likely ones."""
    folder = tmp_path_factory.mktemp("pieces")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [*special, *KNOWN, *MARKS, "<mask>"]
    tokenizer = XLMRobertaTokenizer(vocab=[(token, len(token) - 20.0) for token in vocabulary])
    size = len(tokenizer)
    config = XLMRobertaConfig(
        vocab_size=size,
        hidden_size=size,
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=40,
        type_vocab_size=1,
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    network = XLMRobertaForTokenClassification(config)
    with torch.no_grad():
        for parameter in network.roberta.embeddings.parameters():
            parameter.fill_(1.0 if parameter.dim() == 1 else 0.0)
        network.roberta.embeddings.LayerNorm.bias.zero_()
        network.roberta.embeddings.word_embeddings.weight.copy_(torch.eye(size))
        network.classifier.weight.zero_()
        network.classifier.bias.zero_()
        for token, number in tokenizer.get_vocab().items():
            network.classifier.weight[TAGS.get(token, 0), number] = 1.0
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "tokens", "places"),
    [
        ("In Berlin.", ["In", "Berlin", "."], ["Berlin"]),
        ("我住在Berlin。", [*"我住在", "Berlin", "。"], ["Berlin"]),
        (
            "In (Berlin) lies Köln.",
            ["In", "(", "Berlin", ")", "lies", "Köln", "."],
            ["Berlin", "Köln"],
        ),
        ("In U.S.", ["In", "U.S", "."], ["U.S"]),  # no space comes between the letters
    ],
)
def test_the_marks_around_a_name_are_no_part_of_it(
    model: str, text: str, tokens: list[str], places: list[str]
) -> None:
    found = predicted(model, text)
    assert found["tokens"] == tokens
    assert [one["text"] for one in found["entities"]] == places
    for one in found["entities"]:
        assert text[one["start"] : one["end"]] == one["text"]


def test_a_name_in_a_clause_of_chinese_is_found(model: str) -> None:
    text = "我住在北京"
    found = predicted(model, text)
    assert found["tokens"] == list(text)
    assert found["labels"] == ["O", "O", "O", "B-LOC", "I-LOC"]
    (entity,) = found["entities"]
    assert (entity["text"], entity["start"], entity["end"]) == ("北京", 3, 5)


@pytest.mark.parametrize("text", ["In Berlin.", "我住在北京", "In U.S."])
def test_a_text_has_the_labels_of_the_list_of_its_words(model: str, text: str) -> None:
    found = predicted(model, text)
    line = json.dumps({"tokens": found["tokens"]}).encode()
    of_list: Any = json.loads(done("predict", "--model", model, "--input", "-", stdin=line))
    assert of_list["labels"] == found["labels"] and of_list["scores"] == found["scores"]


def test_the_words_behind_the_last_token_are_left_out(model: str) -> None:
    found: Any = json.loads(
        done("predict", "--model", model, "--text", "In Berlin. In Köln.", "--max_length", "5")
    )
    assert found["tokens"] == ["In", "Berlin", "."]
    assert [one["text"] for one in found["entities"]] == ["Berlin"]


@pytest.mark.parametrize(
    ("text", "fine", "coarse"),
    [
        ("a well-known U.S. firm", "a well - known U . S . firm", "a well-known U.S . firm"),
        (
            "O'Neill's 1,000.5 € (3:1)",
            "O ' Neill ' s 1 , 000 . 5 € ( 3 : 1 )",
            "O'Neill's 1,000.5 € ( 3:1 )",
        ),
        ("Bonn,Basel/Köln!", "Bonn , Basel / Köln !", "Bonn , Basel / Köln !"),
        ("東京タワーへ2回", "東 京 タ ワ ー へ 2 回", "東 京 タ ワ ー へ 2 回"),
        ("ที่กรุงเทพ", "ที่ ก รุ ง เ ท พ", "ที่ ก รุ ง เ ท พ"),
        ("서울에서 हिन्दी", "서울에서 हिन्दी", "서울에서 हिन्दी"),
        ("cafe\u0301 👩‍👩‍👧 ok", "cafe\u0301 👩‍👩‍👧 ok", "cafe\u0301 👩‍👩‍👧 ok"),
        (" \n", "", ""),
    ],
)
def test_a_text_is_cut_into_words_marks_and_single_characters(
    text: str, fine: str, coarse: str
) -> None:
    for marks_alone, expected in ((True, fine), (False, coarse)):
        found = cut(text, marks_alone=marks_alone, with_spaces=False)
        assert found.words == expected.split()
        assert [text[a:b] for a, b in found.spans.words] == found.words


@pytest.mark.parametrize("apart", [True, False])
def test_a_byte_level_tokenizer_reads_no_other_spaces_than_it_reads_in_lists(apart: bool) -> None:
    letters = [*pre_tokenizers.ByteLevel.alphabet()]
    known = {
        token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])
    }
    tokenizer = RobertaTokenizer(vocab=known, merges=[], add_prefix_space=apart)
    assert reads_words_apart(tokenizer) is apart
    assert reads_marks_alone(tokenizer) is not apart
    text = "a-b (c)."
    found = cut(text, marks_alone=not apart, with_spaces=not apart)
    read = tokenizer(found.words, is_split_into_words=True, add_special_tokens=False).tokens()
    whole = tokenizer.tokenize(text)
    assert "".join(read) == ("Ġa-bĠ(ĠcĠ)Ġ." if apart else "".join(whole))


def test_bert_reads_the_words_as_it_reads_the_text(make_reader: Any) -> None:
    tokenizer: PreTrainedTokenizerBase = make_reader(
        ["rhine", "u", "s", ".", "-", "a", "(", ")"], 1
    )[1]
    assert reads_words_apart(tokenizer) and reads_marks_alone(tokenizer)
    text = "a rhine-u (U.S.) 北 rhine"
    words = cut(text, marks_alone=True, with_spaces=False).words
    assert tokenizer(words, is_split_into_words=True)["input_ids"] == tokenizer(text)["input_ids"]


def predicted(model: str, text: str) -> Any:
    return json.loads(done("predict", "--model", model, "--text", text))
