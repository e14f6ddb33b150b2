"""Queries with passages: what is read, what is refused, and what is made of SQuAD."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.reranking.data import chosen_passages, read_queries
from itrd_nlp.tasks.reranking.from_squad import articles, ranking_rows

GOOD = {"query": "q", "passages": ["a", "b"], "labels": [0, 1]}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_line_is_read_with_its_numbers_as_floats(tmp_path: Path) -> None:
    row = GOOD | {"labels": [True, 2], "scores": [-1, 0.5], "source": "s", "other": 1}
    (found,) = read_queries(written(tmp_path / "x.jsonl", row))
    assert found == {
        "query": "q",
        "passages": ["a", "b"],
        "labels": [1.0, 2.0],
        "scores": [-1.0, 0.5],
        "source": "s",
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"query": None}, '"query" is None, but must be a string that is not empty'),
        ({"query": " "}, "\"query\" is ' ', but must be"),
        ({"query": "\ud800"}, '"query" is'),
        ({"passages": None}, '"passages" must be a list of strings, at least one'),
        ({"passages": []}, '"passages" must be a list of strings, at least one'),
        ({"passages": "a"}, '"passages" must be a list of strings'),
        ({"passages": ["a", ""]}, "number 1 (from 0 on) of \"passages\" is '', but must be"),
        ({"passages": ["a", 3]}, "number 1 (from 0 on) of \"passages\" is '3'"),
        ({"labels": None}, '"labels" is missing, but must hold a number for each passage'),
        ({"labels": [1]}, '"labels" must be a list with one number for each of 2 passages'),
        ({"labels": ["1", 0]}, "'1' is among \"labels\", but each must be a finite number"),
        (
            {"labels": [-1, 0]},
            '-1 is among "labels", but each must be a finite number of at least 0',
        ),
        ({"labels": [float("nan"), 0]}, 'nan is among "labels"'),
        ({"scores": [None, 1]}, 'None is among "scores", but each must be a finite number.'),
        ({"scores": [1e400, 1]}, 'inf is among "scores"'),
        ({"labels": [10**400, 1]}, '0 is among "labels", but each must be a finite number'),
        ({"scores": [1, -(10**400)]}, '0 is among "scores", but each must be a finite number'),
        ({"source": 3}, '"source" is 3, but must be a string'),
    ],
)
def test_a_line_that_makes_no_sense_is_refused_by_its_number_and_field(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    path = written(tmp_path / "x.jsonl", GOOD, GOOD | changes)
    with pytest.raises(UserError) as error:
        read_queries(path)
    assert "x.jsonl:2" in str(error.value) and sentence in str(error.value)


def test_what_a_reader_needs_decides_what_may_be_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"query": "q", "passages": ["a"]})
    assert read_queries(path, labels=False)[0]["labels"] is None
    with pytest.raises(UserError, match='"scores" is missing'):
        read_queries(path, labels=False, scores=True)
    with pytest.raises(UserError, match="holds no query"):
        read_queries(written(tmp_path / "y.jsonl"))


def test_the_passages_with_the_largest_labels_are_kept_in_their_order() -> None:
    row = {"passages": list("abcd"), "labels": [0.0, 0.0, 1.0, 2.0], "scores": [4.0, 3.0, 2.0, 1.0]}
    kept = chosen_passages(row, 3)
    assert kept == {
        "passages": ["a", "c", "d"],
        "labels": [0.0, 1.0, 2.0],
        "scores": [4.0, 2.0, 1.0],
    }
    assert chosen_passages(row | {"labels": None}, 2)["passages"] == ["a", "b"]
    assert chosen_passages(row, 4) is row


def squad(title: str, context: str, question: str) -> dict[str, Any]:
    return {"title": title, "context": context, "question": question}


def test_rows_of_squad_hold_the_own_paragraph_and_those_with_most_words_of_the_question() -> None:
    examples = [
        squad("Rhine", "The Rhine begins in the Alps.", "Where does the Rhine begin?"),
        squad("Rhine", "Bonn lies at the Rhine.", "Which city lies at the Rhine?"),
        squad("Rhine", "Fish are rare.", "What is rare?"),
        squad("Alone", "One paragraph.", "Why?"),
    ]
    rows = list(ranking_rows(examples, articles(examples), most=2))
    assert [row["query"] for row in rows] == [e["question"] for e in examples[:3]]
    for row, example in zip(rows, examples, strict=False):
        relevant = [p for p, label in zip(row["passages"], row["labels"], strict=True) if label]
        assert relevant == [example["context"]] and row["source"] == "Rhine"
        assert len(row["passages"]) == 2
    assert "Fish are rare." not in rows[0]["passages"] + rows[1]["passages"]
    everything = list(ranking_rows(examples * 5, articles(examples), most=20))
    assert {row["labels"].index(1) for row in everything} == {0, 1, 2}
    with pytest.raises(UserError, match="no article has two paragraphs"):
        list(ranking_rows(examples[3:], articles(examples[3:]), most=2))
