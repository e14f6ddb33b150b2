"""How alike the layers are is shown in the report. No training depends on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.jobs import similarity as jobs
from itrd_nlp.tasks.jobs.arguments import StudentArguments
from itrd_nlp.tasks.jobs.distil import distil
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.training.record import RunRecord

WORDS = [f"w{i}" for i in range(20)]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_reader: Any
) -> Callable[[], RunRecord]:
    """Distil one layer in one step by KD alone."""
    monkeypatch.chdir(tmp_path)
    for part in make_reader(WORDS, 2, max_position_embeddings=64):
        part.save_pretrained("teacher")
    question = {"question": "w3", "answers": [{"text": "w0", "answer_start": 0}]}
    paragraphs = [
        {"context": " ".join(WORDS[:9]), "qas": [question | {"id": f"q{i}"}]} for i in range(4)
    ]
    content = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
    Path("squad.json").write_text(json.dumps(content))

    def run() -> RunRecord:
        files = {"train_file": "squad.json", "validation_file": "squad.json"}
        task = QuestionAnswering(DataArguments(**files, max_length=64, doc_stride=16))
        usual = {"max_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
        args = ITRDTrainingArguments(output_dir="student", beta_corr=0, beta_mi=0, **usual)
        models = StudentArguments(teacher="teacher", num_layers=1)
        return distil(task, models, LoadingArguments(), args)

    return run


def test_a_failure_to_compare_the_layers_stops_no_training(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def out_of_memory(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(jobs, "layer_similarity", out_of_memory)
    with caplog.at_level(logging.WARNING):
        record = run()
    assert record.steps == 1 and record.ms_per_question is not None
    for when in ("before", "after"):
        assert f"how alike the layers are {when} the training is missing: out of" in caplog.text
    assert not Path("student/analysis/similarity.json").exists()
    assert Path("student/report.html").is_file()


def test_layers_are_not_compared_where_that_takes_too_much_memory(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unbounded(*_: Any) -> None:
        raise AssertionError("the layers are compared")

    monkeypatch.setattr(jobs, "similarity_bytes", lambda *_: 5_100_000_000)
    monkeypatch.setattr(jobs, "layer_similarity", unbounded)
    with caplog.at_level(logging.WARNING):
        assert run().steps == 1
    assert "its sums would take 5.1 GB of memory, but at most 4 GB are spent on them" in caplog.text


def test_layers_are_compared_before_and_after_the_training(run: Any) -> None:
    run()
    found = json.loads(Path("student/analysis/similarity.json").read_text())
    assert list(found) == ["before", "after"]
    assert [len(found["before"]["cka"]), len(found["before"]["cka"][0])] == [2, 3]


@pytest.mark.parametrize("count", [3, 64, 65, 100, 128, 1000])
def test_the_features_that_are_compared_are_of_all_lengths(count: int) -> None:
    """Those of questions are sorted by length, the longest first."""
    rows = [{"input_ids": [0] * length} for length in range(count, 0, -1)]
    data: Any = SimpleNamespace(evaluation=Dataset.from_list(rows), collator=lambda rows: rows)
    lengths = [len(row["input_ids"]) for batch in jobs._batches(data) for row in batch]
    assert len(lengths) == min(count, 64)
    assert (lengths[0], lengths[-1]) == (count, 1)
    assert {a - b for a, b in pairwise(lengths)} <= {count // 64, count // 64 + 1, 1}
