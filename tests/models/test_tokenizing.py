"""Tokenizers read a list of words as they read a text, and whatever has to be changed for it is saved with them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BartConfig,
    BertConfig,
    BertTokenizer,
    CanineConfig,
    CanineTokenizer,
    Gemma3Config,
    GPT2Config,
    GPT2Tokenizer,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Tokenizer,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.tokenizing import (
    check_words,
    load_tokenizer,
    reads_words_apart,
    vocabulary_size,
    warn_of_joined_words,
    with_words_apart,
)

TEXT = "see London, in May see London again"
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# As Llama 3 and Qwen cut a text before its bytes are read.
CUTS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


@pytest.fixture(scope="module")
def learned() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges of a byte-level tokenizer that has seen `TEXT`."""
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    own.train_from_iterator([TEXT] * 9, trainer)
    spec = json.loads(own.to_str())["model"]
    return spec["vocab"], [(a, b) for a, b in spec["merges"]]


def from_file(learned: Any, *, cut: bool, trimmed: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer without a class of its own, as those of ModernBERT and Llama 3 are."""
    vocab, merges = learned
    own = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    own.decoder = decoders.ByteLevel()
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if cut:
        own.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(CUTS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    if trimmed:
        own.post_processor = processors.RobertaProcessing(
            ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), True, False
        )
    return PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>", unk_token="<unk>")


def made(kind: str, learned: Any) -> tuple[Any, Any]:
    """A tokenizer of a kind, and a configuration, by which transformers chooses its class."""
    vocab, merges = learned
    if kind in ("roberta", "bart"):
        config = RobertaConfig() if kind == "roberta" else BartConfig()
        return RobertaTokenizer(vocab=vocab, merges=merges), config
    if kind == "gpt2":
        return GPT2Tokenizer(vocab=vocab, merges=merges), GPT2Config()
    if kind == "qwen2":
        return Qwen2Tokenizer(vocab=vocab, merges=merges), Qwen2Config()
    if kind == "llama3":
        return from_file(learned, cut=True), LlamaConfig()
    return from_file(learned, cut=False, trimmed=kind == "trimmed"), ModernBertConfig()


BYTE_LEVEL = ("roberta", "bart", "gpt2", "qwen2", "llama3", "modernbert", "trimmed")


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_words_are_the_tokens_of_their_text_also_when_the_tokenizer_was_saved(
    tmp_path: Path, learned: Any, kind: str
) -> None:
    for part in made(kind, learned):
        part.save_pretrained(tmp_path / "model")
    name, args = str(tmp_path / "model"), LoadingArguments()
    before = load_tokenizer(name, args)
    assert not reads_words_apart(before)
    tokenizer = with_words_apart(before, name, args)
    tokenizer.save_pretrained(name)
    words = {"add_special_tokens": False, "is_split_into_words": True}
    # The model was trained to read the text behind another one, with all of its spaces.
    expected = before(" " + TEXT, add_special_tokens=False).tokens()
    if kind == "qwen2":  # its class, with the option of transformers, puts a space before each cut
        expected[expected.index(",") : expected.index(",") + 1] = ["Ġ", ","]
    for reader in (tokenizer, AutoTokenizer.from_pretrained(name)):
        assert reader(TEXT.split(), **words).tokens() == expected
        assert reader(TEXT, add_special_tokens=False).tokens() == expected
        assert reader.get_vocab() == before.get_vocab()
        assert reader.pad_token == before.pad_token
        encoded = reader(TEXT)
        spans = [
            encoded.word_to_chars(w) for w in dict.fromkeys(encoded.word_ids()) if w is not None
        ]
        assert " ".join(TEXT[a:b].strip() for a, b in spans) == TEXT.replace(",", " ,")


def test_tokenizers_of_words_and_of_sentences_stay_the_same_objects(tmp_path: Path) -> None:
    pieces = [(piece, -1.0) for piece in ("<s>", "<pad>", "</s>", "<unk>", "▁a", "▁", "a")]
    for tokenizer, config in (
        (BertTokenizer(vocab={t: i for i, t in enumerate(("[PAD]", "[UNK]", "a"))}), BertConfig()),
        (XLMRobertaTokenizer(vocab=pieces), XLMRobertaConfig()),
        (CanineTokenizer(), None),  # a slow one
    ):
        name = str(tmp_path / type(tokenizer).__name__)
        tokenizer.save_pretrained(name)
        if config is not None:
            config.save_pretrained(name)
            assert reads_words_apart(tokenizer)
        assert with_words_apart(tokenizer, name, LoadingArguments()) is tokenizer


def test_a_model_that_was_trained_on_joined_words_keeps_them_and_is_named(
    learned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    apart, joined = BertTokenizer(), from_file(learned, cut=False)
    with caplog.at_level(logging.WARNING, "itrd_nlp"):
        warn_of_joined_words(apart)
        assert not caplog.messages
        warn_of_joined_words(joined)
    assert "without the spaces between them" in caplog.text


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (BertConfig(vocab_size=9), 9),
        (Gemma3Config(text_config={"vocab_size": 9}), 9),
        (CanineConfig(), None),
    ],
)
def test_the_number_of_tokens_is_that_of_the_part_that_reads_text(
    config: Any, size: int | None
) -> None:
    assert vocabulary_size(config) == size


def test_a_tokenizer_that_does_not_know_its_words_is_refused() -> None:
    check_words(BertTokenizer())
    with pytest.raises(UserError, match="CanineTokenizer is no fast tokenizer"):
        check_words(CanineTokenizer())
