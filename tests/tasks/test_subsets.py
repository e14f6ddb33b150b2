"""The record of the data says whether the source has more examples than were read, for every task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertForSequenceClassification

from itrd_nlp.tasks import TASKS, options_of, task_named
from itrd_nlp.tasks.embedding.similarity import SentenceSimilarity
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.training.record import DataRecord

WORDS = [f"w{i}" for i in range(20)]
RANKED = {"query": "w1", "passages": ["w2 w3", "w4"], "labels": [1, 0]}
TEXTS = [{"text": "w1 w2 w3 w4"}, {"text": "w2 w3 w4 w5"}, {"text": "w3 w4 w5 w6"}]
ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": [row | {"label": label} for row, label in zip(TEXTS, "aba", strict=True)],
    "reranking": [RANKED] * 3,
    "embedding": [RANKED] * 3,
    "sentence-similarity": [row | {"text_pair": "w2", "score": i} for i, row in enumerate(TEXTS)],
    "masked-lm": TEXTS,
    "encoder": TEXTS,
}


def squad(path: Path, articles: int = 6) -> str:
    data = []
    for i in range(articles):
        context = " ".join(WORDS[i : i + 10])
        answer = {"text": WORDS[i], "answer_start": 0}
        qas = [{"id": f"q{i}", "question": f"w{i}", "answers": [answer]}]
        data.append({"title": f"t{i}", "paragraphs": [{"context": context, "qas": qas}]})
    path.write_text(json.dumps({"version": "1.1", "data": data}))
    return str(path)


def records(task: Any, parts: Any, *, training: bool = True) -> dict[str, DataRecord]:
    model, tokenizer = parts
    task.judged_beside(model, model)
    found: dict[str, DataRecord] = task.load(tokenizer, model, training=training).datasets
    return found


@pytest.fixture
def parts(make_reader: Any) -> Any:
    return make_reader(WORDS, 1, max_position_embeddings=64)


def with_head(name: str, parts: Any) -> Any:
    """The reader, and in its place a classifier or a ranker where the task asks for its head."""
    model, tokenizer = parts
    if name == "classification":
        model.config.id2label = {0: "a", 1: "b"}
    elif name == "reranking":
        model.config.id2label = {0: "score"}
    return (BertForSequenceClassification(model.config), tokenizer)


@pytest.mark.parametrize("name", ROWS)
def test_a_file_with_more_lines_is_a_subset(name: str, parts: Any, tmp_path: Path) -> None:
    assert {*ROWS, "question-answering"} == set(TASKS)
    file = tmp_path / "rows.jsonl"
    # The fourth line is read by nobody where three are asked for.
    file.write_text("\n".join([*map(json.dumps, ROWS[name]), "{"]))
    arguments = options_of(name)[0]
    for most in (2, 3):
        limits = {"max_train_samples": most, "max_eval_samples": most}
        args = arguments(train_file=str(file), validation_file=str(file), max_length=32, **limits)
        found = records(task_named(name)(args), with_head(name, parts))
        assert {split: data.subset for split, data in found.items()} == {
            "train": True,
            "validation": True,
        }
    file.write_text("\n".join(map(json.dumps, ROWS[name])) + "\n\n")
    for most in (3, 4, None):
        args = arguments(train_file=str(file), validation_file=str(file), max_train_samples=most)
        found = records(task_named(name)(args), with_head(name, parts))
        assert {data.subset for data in found.values()} == {False}


def test_queries_that_are_dropped_after_the_cut_do_not_hide_it(parts: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [RANKED, RANKED | {"labels": [0, 0]}, RANKED]
    file.write_text("\n".join(map(json.dumps, rows)))
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, ROWS["sentence-similarity"])))
    names = {"train_file": str(file), "validation_file": str(pairs)}
    args = SentenceSimilarity.arguments(**names, max_train_samples=2)
    train = records(SentenceSimilarity(args), parts)["train"]
    assert (train.rows, train.subset) == (1, True)


def test_questions_that_are_set_aside_make_a_subset_and_are_of_the_train_split(
    parts: Any, tmp_path: Path
) -> None:
    file = squad(tmp_path / "squad.json")
    usual = {"train_file": file, "validation_file": file, "max_length": 32, "doc_stride": 4}
    for options, train, validation, split in (
        ({}, False, False, None),
        ({"max_train_samples": 6, "max_eval_samples": 6}, False, False, None),
        ({"max_train_samples": 5, "max_eval_samples": 5}, True, True, None),
        ({"holdout_questions": 2}, True, False, None),
        ({"holdout_questions": 2, "evaluate_on_holdout": True}, True, True, "train"),
    ):
        found = records(QuestionAnswering(DataArguments(**usual | options)), parts)  # type: ignore[arg-type]
        assert (found["train"].subset, found["validation"].subset) == (train, validation), options
        assert (found["validation"].model_extra or {}).get("split") == split
