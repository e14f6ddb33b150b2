"""The task of a model follows from its record or its head. Where neither names one, a sentence says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json
from itrd_nlp.tasks import task_of
from itrd_nlp.training.record import RunRecord

QA = {"architectures": ["BertForQuestionAnswering"]}
OTHER = {"architectures": ["BertForNextSentencePrediction"]}


@pytest.mark.parametrize(
    ("task", "config", "name"),
    [
        ("classification", QA, "classification"),
        (None, QA, "question-answering"),
        ("reranking", {}, "reranking"),
    ],
)
def test_the_record_comes_before_the_head(
    task: str | None, config: dict[str, Any], name: str, tmp_path: Path
) -> None:
    RunRecord(version=3, task=task).write(tmp_path)
    write_json(tmp_path / "config.json", config)
    assert task_of(tmp_path).name == name


@pytest.mark.parametrize(
    ("record", "config", "sentence"),
    [
        ({"task": "my-task"}, QA, "results.json is of the task my-task, which is not registered"),
        ({}, OTHER, "holds a BertForNextSentencePrediction; the tasks are question-answering, "),
        ({"metrics": {"mine": "Mine"}}, {}, "of an unknown task, and no model whose head names"),
    ],
)
def test_a_task_that_nothing_names_is_refused(
    record: dict[str, Any], config: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    RunRecord(version=3, **record).write(tmp_path)
    write_json(tmp_path / "config.json", config)
    with pytest.raises(UserError, match=sentence):
        task_of(tmp_path)
