"""Windows: held against the truncation and the offsets of the tokenizer itself."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering import (
    QuestionAnsweringCollator,
    evaluation_features,
    features,
    read_squad,
    training_features,
)
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.task import QuestionAnswering


@pytest.fixture
def examples(write_squad: Callable[..., Path]) -> Dataset:
    return read_squad(write_squad(), split="train")


@pytest.fixture(params=["bert_tokenizer", "roberta_tokenizer"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(("max_length", "doc_stride"), [(80, 16), (80, 0), (75, 20), (4000, 128)])
def test_windows_are_those_of_the_tokenizer(
    examples: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int
) -> None:
    expected = tokenizer(
        examples["question"][:],
        examples["context"][:],
        truncation="only_second",
        max_length=max_length,
        stride=doc_stride,
        return_overflowing_tokens=True,
    )
    windows = training_features(examples, tokenizer, max_length=max_length, doc_stride=doc_stride)
    assert windows["input_ids"][:] == expected["input_ids"]
    assert windows["length"][:] == [len(ids) for ids in expected["input_ids"]]
    assert ("token_type_ids" in windows.column_names) == ("token_type_ids" in expected)
    if "token_type_ids" in expected:
        assert windows["token_type_ids"][:] == expected["token_type_ids"]

    positions = []
    for encoding, row in zip(
        expected.encodings, expected["overflow_to_sample_mapping"], strict=True
    ):
        answers = examples[row]["answers"]
        start = answers["answer_start"][0]
        first = encoding.char_to_token(start, 1)
        last = encoding.char_to_token(start + len(answers["text"][0]) - 1, 1)
        positions.append((0, 0) if first is None or last is None else (first, last))
    assert (0, 0) in positions or max_length == 4000
    assert list(zip(windows["start_positions"], windows["end_positions"], strict=True)) == positions


def test_answer_positions_lead_back_to_the_answer(
    write_squad: Callable[..., Path], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Every answer is found in some window, and what a window holds is the answer itself."""
    examples = read_squad(write_squad(articles=12, seed=3), split="train")
    rows = {row["id"]: row for row in examples}
    found = set()
    for window in evaluation_features(examples, tokenizer, max_length=120, doc_stride=40):
        first, last = window["start_positions"], window["end_positions"]
        if first:
            row = rows[window["example_id"]]
            text = row["context"][window["char_start"][first] : window["char_end"][last]]
            assert text == row["answers"]["text"][0]
            assert window["char_start"][first] == row["answers"]["answer_start"][0]
            found.add(row["id"])
        else:
            assert last == 0
    assert found == set(rows)


@pytest.mark.parametrize(
    ("context", "answer"),
    [("it lies in paris ", "paris "), (" paris a", " paris"), ("\u3000paris\n", "\u3000paris\n")],
)
def test_white_space_around_an_answer_is_no_part_of_it(
    context: str, answer: str, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = {
        "id": "q",
        "question": "where",
        "context": context,
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }
    (window,) = evaluation_features(Dataset.from_list([rows]), bert_tokenizer)
    first, last = window["start_positions"], window["end_positions"]
    assert first > 0
    assert context[window["char_start"][first] : window["char_end"][last]] == "paris"


def test_windows_cover_every_context_token_and_overlap_by_doc_stride(
    examples: Dataset, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    windows = evaluation_features(examples, bert_tokenizer, max_length=60, doc_stride=10)
    assert max(windows["length"]) == 60
    for row in examples:
        whole = bert_tokenizer(
            row["context"], add_special_tokens=False, return_offsets_mapping=True
        )["offset_mapping"]
        parts = sorted(
            [
                pair
                for pair in zip(window["char_start"], window["char_end"], strict=True)
                if pair != (-1, -1)
            ]
            for window in windows
            if window["example_id"] == row["id"]
        )
        joined = parts[0]
        for part in parts[1:]:
            assert joined[-10:] == part[:10]
            joined = joined + part[10:]
        assert joined == whole


def test_characters_are_those_of_the_token_and_of_nothing_else(
    examples: Dataset, roberta_tokenizer: PreTrainedTokenizerBase
) -> None:
    contexts = dict(zip(examples["id"], examples["context"], strict=True))
    letters = 0
    for window in evaluation_features(examples, roberta_tokenizer, max_length=90, doc_stride=20):
        tokens = roberta_tokenizer.convert_ids_to_tokens(window["input_ids"])
        first_context = tokens.index("</s>") + 2
        for i, (token, start, end) in enumerate(
            zip(tokens, window["char_start"], window["char_end"], strict=True)
        ):
            if i < first_context or i == len(tokens) - 1:
                assert start == end == -1
            elif token.isascii():  # one byte, one character
                assert contexts[window["example_id"]][start:end] == token
                letters += 1
    assert letters > 100


def test_evaluation_windows_are_those_of_training_with_the_longest_first(
    examples: Dataset, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    train = training_features(examples, bert_tokenizer, max_length=60, doc_stride=10)
    evaluation = evaluation_features(examples, bert_tokenizer, max_length=60, doc_stride=10)
    assert evaluation["length"][:] == sorted(train["length"], reverse=True)
    by_ids = {tuple(row["input_ids"]): row for row in train}
    for row in evaluation:
        same = by_ids[tuple(row["input_ids"])]
        assert {name: row[name] for name in same} == same


def test_questions_without_answers_are_cut_for_evaluation(
    examples: Dataset, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    with_answers = evaluation_features(examples, bert_tokenizer)
    without = evaluation_features(examples.remove_columns("answers"), bert_tokenizer)
    labels = ["start_positions", "end_positions"]
    assert with_answers.remove_columns(labels).to_list() == without.to_list()


def test_a_question_with_an_empty_list_of_answers_points_to_the_first_token(
    bert_tokenizer: PreTrainedTokenizerBase,
) -> None:
    row = {"id": "1", "context": "a", "question": "b", "answers": {"text": [], "answer_start": []}}
    window = training_features(Dataset.from_list([row]), bert_tokenizer)[0]
    assert (window["start_positions"], window["end_positions"]) == (0, 0)


def test_several_processes_give_the_same_windows(
    examples: Dataset,
    bert_tokenizer: PreTrainedTokenizerBase,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = training_features(examples, bert_tokenizer, max_length=60, doc_stride=10)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "other")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    both = training_features(examples, bert_tokenizer, max_length=60, doc_stride=10, num_proc=2)
    assert both.to_list() == alone.to_list()


# ---- cache ----


def test_a_cache_that_cannot_be_written_is_done_without(
    examples: Dataset,
    bert_tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No folder can be made below /proc, not even by root."""
    sizes = {"max_length": 60, "doc_stride": 10}
    expected = [
        f(examples, bert_tokenizer, **sizes) for f in (training_features, evaluation_features)
    ]
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("/proc/nope"))
    with caplog.at_level(logging.WARNING):
        found = [
            f(examples, bert_tokenizer, **sizes) for f in (training_features, evaluation_features)
        ]
    assert [one.to_list() for one in found] == [one.to_list() for one in expected]
    assert [one._fingerprint for one in found[:1]] == [one._fingerprint for one in expected[:1]]
    assert "/proc/nope/itrd_nlp cannot be written" in caplog.text
    assert not found[0].cache_files


def test_a_disk_that_is_full_in_the_middle_costs_the_cache_alone(
    examples: Dataset,
    bert_tokenizer: PreTrainedTokenizerBase,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(tempfile, "NamedTemporaryFile", full)  # where map begins its file
        found = training_features(examples, bert_tokenizer)
    assert "cannot be written (No space left on device)" in caplog.text
    assert not list(cache.rglob("*.arrow"))
    assert found.to_list() == training_features(examples, bert_tokenizer).to_list()


def test_a_cache_that_can_only_be_read_is_read(
    examples: Dataset, bert_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = training_features(examples, bert_tokenizer).to_list()

    def read_only(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", read_only)
    monkeypatch.setattr(features, "_batch_of_windows", None)  # fails if it is called
    assert training_features(examples, bert_tokenizer).to_list() == expected


_SECOND_RUN = """
import sys
from transformers import AutoTokenizer
from itrd_nlp.tasks.question_answering import features, read_squad
features._batch_of_windows = None  # fails if it is called
examples = read_squad(sys.argv[1], split="train", max_samples=7)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
windows = features.training_features(examples, tokenizer, max_length=60, doc_stride=10)
print(windows["input_ids"][:] == features.training_features(
    examples, tokenizer, max_length=60, doc_stride=10)["input_ids"][:], len(windows))
"""


def test_a_second_process_finds_the_windows_in_the_cache(
    write_squad: Callable[..., Path],
    bert_tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    cache: Path,
) -> None:
    path = write_squad()
    examples = read_squad(path, split="train", max_samples=7)
    bert_tokenizer(
        "sets truncation and padding", truncation=True, max_length=5, padding="max_length"
    )
    windows = training_features(examples, bert_tokenizer, max_length=60, doc_stride=10)
    bert_tokenizer.save_pretrained(tmp_path / "tokenizer")
    output = subprocess.run(
        [sys.executable, "-c", _SECOND_RUN, str(path), str(tmp_path / "tokenizer")],
        env={**os.environ, "HF_DATASETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.stdout.split() == ["True", str(len(windows))], output.stderr


def test_the_cache_is_used_only_for_the_same_windows(
    write_squad: Callable[..., Path],
    bert_tokenizer: PreTrainedTokenizerBase,
    roberta_tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    original = features._batch_of_windows

    def counted(*args: Any, **kwargs: Any) -> dict[str, list[Any]]:
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(features, "_batch_of_windows", counted)
    examples = read_squad(write_squad(), split="train")
    other = read_squad(write_squad(seed=1), split="train")

    def computes(make: Callable[..., Dataset], *args: Any, **kwargs: Any) -> bool:
        calls.clear()
        make(*args, **kwargs)
        return bool(calls)

    assert computes(training_features, examples, bert_tokenizer)
    assert not computes(training_features, examples, bert_tokenizer)
    assert computes(training_features, other, bert_tokenizer)
    assert computes(training_features, examples, roberta_tokenizer)
    assert computes(training_features, examples, bert_tokenizer, max_length=383)
    assert computes(training_features, examples, bert_tokenizer, doc_stride=127)
    assert computes(evaluation_features, examples, bert_tokenizer)
    assert not computes(evaluation_features, examples, bert_tokenizer)


# ---- bad input ----


def test_a_question_that_fills_the_window_is_named(bert_tokenizer: PreTrainedTokenizerBase) -> None:
    row = {"id": "q7", "context": "a b c d", "question": "x " * 17}
    examples = Dataset.from_list([{**row, "id": "q6", "question": "x"}, row])
    message = "question q7: its 17 tokens leave room for 0 tokens .* window of max_length=20"
    with pytest.raises(UserError, match=message):
        evaluation_features(examples, bert_tokenizer, max_length=20, doc_stride=0)
    assert len(evaluation_features(examples, bert_tokenizer, max_length=21, doc_stride=0)) == 5


def test_a_stride_that_leaves_no_step_is_refused(bert_tokenizer: PreTrainedTokenizerBase) -> None:
    examples = Dataset.from_list([{"id": "q7", "context": "a b c d", "question": "x"}])
    message = "question q7: its 1 tokens leave room for 3 tokens .* doc_stride=3 must be smaller"
    with pytest.raises(UserError, match=message):
        evaluation_features(examples, bert_tokenizer, max_length=7, doc_stride=3)
    assert len(evaluation_features(examples, bert_tokenizer, max_length=7, doc_stride=2)) == 2


@pytest.mark.parametrize("doc_stride", [-1, 384, 500])
def test_a_stride_out_of_range_is_refused(
    examples: Dataset, bert_tokenizer: PreTrainedTokenizerBase, doc_stride: int
) -> None:
    with pytest.raises(UserError, match=f"doc_stride is {doc_stride}, .* below max_length=384"):
        training_features(examples, bert_tokenizer, doc_stride=doc_stride)


def test_a_tokenizer_that_does_not_fit_is_refused(
    examples: Dataset,
    bert_tokenizer: PreTrainedTokenizerBase,
    roberta_tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roberta_tokenizer.cls_token = None
    with pytest.raises(UserError, match="no CLS token before the question"):
        training_features(examples, roberta_tokenizer)
    bert_tokenizer.padding_side = "left"
    with pytest.raises(UserError, match="padding_side='left', but it must be 'right'"):
        training_features(examples, bert_tokenizer)
    monkeypatch.setattr(type(bert_tokenizer), "is_fast", property(lambda self: False))
    with pytest.raises(UserError, match=r"BertTokenizer.* is a slow one, but a fast one is needed"):
        training_features(examples, bert_tokenizer)


# ---- collator ----


def test_a_batch_is_padded_to_a_multiple_of_its_longest_window(
    bert_tokenizer: PreTrainedTokenizerBase,
) -> None:
    short = {"input_ids": [2, 9, 3], "token_type_ids": [0, 0, 1]}
    long = {"input_ids": [2, 9, 9, 9, 3], "token_type_ids": [0, 1, 1, 1, 1]}
    rows = [
        {**short, "start_positions": 1, "end_positions": 2, "length": 3},
        {**long, "start_positions": 0, "end_positions": 0, "length": 5},
    ]
    batch = QuestionAnsweringCollator(bert_tokenizer, pad_to_multiple_of=4)(rows)
    expected = {
        "input_ids": [[2, 9, 3, 0, 0, 0, 0, 0], [2, 9, 9, 9, 3, 0, 0, 0]],
        "attention_mask": [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]],
        "token_type_ids": [[0, 0, 1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0, 0]],
        "start_positions": [1, 0],
        "end_positions": [2, 0],
    }
    assert {name: tensor.tolist() for name, tensor in batch.items()} == expected
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    alone = QuestionAnsweringCollator(bert_tokenizer, pad_to_multiple_of=1)(rows)
    assert alone["input_ids"].shape == (2, 5)


@pytest.mark.parametrize(("most", "padded"), [(None, 8), (8, 8), (6, 6), (5, 5)])
def test_padding_makes_no_batch_longer_than_the_model_takes(
    most: int | None, padded: int, bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    collator = QuestionAnsweringCollator(bert_tokenizer, most=most)
    assert collator([{"input_ids": [2, 9, 9, 9, 3]}])["input_ids"].shape == (1, padded)


def test_windows_as_long_as_the_positions_of_a_model_are_read(
    write_squad: Callable[..., Path], bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write_squad()
    args = DataArguments(validation_file=str(path), max_length=60, doc_stride=10)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = BertConfig(**shape, intermediate_size=8, max_position_embeddings=60)
    model = BertForQuestionAnswering(config)
    data = QuestionAnswering(args).load(bert_tokenizer, model, training=False)
    batch = data.collator([data.evaluation[0]])
    assert model(**batch).start_logits.shape == (1, 60)


def test_a_batch_is_what_the_tokenizer_would_pad(
    examples: Dataset, tokenizer: PreTrainedTokenizerBase
) -> None:
    windows = evaluation_features(examples, tokenizer, max_length=90, doc_stride=20)
    names = [name for name in ("input_ids", "token_type_ids") if name in windows.column_names]
    loader = DataLoader(windows, batch_size=5, collate_fn=QuestionAnsweringCollator(tokenizer))
    begin = 0
    for batch in loader:
        rows = windows.select(range(begin, begin + len(batch["input_ids"])))
        expected = tokenizer.pad(
            {name: rows[name][:] for name in names}, pad_to_multiple_of=8, return_tensors="np"
        )
        assert set(batch) == {*expected, "start_positions", "end_positions"}
        for name in expected:
            np.testing.assert_array_equal(batch[name].numpy(), expected[name])
        begin += len(rows)
    assert begin == len(windows)


def test_a_collator_without_a_padding_token_or_multiple_is_refused(
    bert_tokenizer: PreTrainedTokenizerBase,
) -> None:
    with pytest.raises(UserError, match="pad_to_multiple_of is 0, but must be at least 1"):
        QuestionAnsweringCollator(bert_tokenizer, pad_to_multiple_of=0)
    bert_tokenizer.pad_token = None
    with pytest.raises(UserError, match="no padding token"):
        QuestionAnsweringCollator(bert_tokenizer)
