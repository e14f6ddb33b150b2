"""Texts to train on and to judge on: what is read and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.embedding.arguments import EmbeddingArguments
from itrd_nlp.tasks.embedding.data import read_pairs, read_training
from itrd_nlp.tasks.embedding.retrieval import Embedding, corpus_of, relevant_passages
from itrd_nlp.tasks.embedding.similarity import SentenceSimilarity


def written(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_query_goes_with_its_most_relevant_passage(tmp_path: Path) -> None:
    found = read_training(
        written(
            tmp_path / "x.jsonl",
            {"query": "a", "passages": ["p", "q"], "labels": [1, 2]},
            {"query": "b", "passages": ["r", "s"], "labels": [0, 0]},
            {"query": "c", "passages": ["q"], "labels": [1]},
        )
    )
    assert (found.kind, found.labelled) == ("queries", True)
    assert found.rows == [["a", "q"], ["c", "q"]]
    assert found.labels == [0, 0]  # both have one passage


def test_queries_without_labels_go_with_their_first_passage(tmp_path: Path) -> None:
    found = read_training(written(tmp_path / "x.jsonl", {"query": "a", "passages": ["p", "q"]}))
    assert (found.rows, found.labelled) == ([["a", "p"]], False)


def test_pairs_and_single_texts_are_read(tmp_path: Path) -> None:
    pair = {"text": "a", "text_pair": "b", "score": 1}
    found = read_training(written(tmp_path / "x.jsonl", pair))
    assert (found.kind, found.rows, found.labels) == ("pairs", [["a", "b"]], [1.0])
    found = read_training(written(tmp_path / "y.jsonl", {"text": "a"}, {"text": "b"}), 1)
    assert (found.kind, found.rows, found.labelled) == ("texts", [["a"]], False)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "holds no text"),
        ([{"text": "a"}, {"text": " "}], "x.jsonl:2: \"text\" is ' ', but must be a string"),
        ([{"text": "a"}, {"query": "a"}], 'x.jsonl:2: "text" is None'),
        ([{"text": "a", "text_pair": "", "score": 1}], "\"text_pair\" is ''"),
        ([{"text": "a", "text_pair": "b"}], '"score" is None, but must be a finite number'),
        ([{"text": "a", "text_pair": "b", "score": float("nan")}], '"score" is nan'),
        ([{"text": "a", "text_pair": "b", "score": True}], '"score" is True'),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(
    tmp_path: Path, rows: list[Any], sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        read_training(written(tmp_path / "x.jsonl", *rows))
    assert sentence in str(error.value)


def test_pairs_of_one_score_have_no_order(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", *[{"text": "a", "text_pair": "b", "score": 2}] * 3)
    assert len(read_pairs(path)) == 3
    with pytest.raises(UserError, match="has the score 2 alone, so there is no order"):
        _ = SentenceSimilarity(EmbeddingArguments(validation_file=str(path)))._validation


def test_training_queries_without_a_relevant_passage_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"query": "a", "passages": ["p"], "labels": [0]})
    with pytest.raises(UserError, match="has no query with a relevant passage"):
        _ = Embedding(EmbeddingArguments(train_file=str(path)))._train


def test_a_passage_of_several_queries_is_one_of_the_choice() -> None:
    rows = [
        {"passages": ["p", "q"], "labels": [1.0, 0.0]},
        {"passages": ["q", "r"], "labels": [2.0, 1.0]},
    ]
    assert corpus_of(rows) == ["p", "q", "r"]
    assert relevant_passages(rows) == [[0], [1, 2]]
