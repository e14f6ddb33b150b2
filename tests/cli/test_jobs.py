"""Models are judged with texts of the length that they were trained with, unless the command line names another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli.jobs import as_trained
from itrd_nlp.cli.parser import parse
from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.window_sizes import WindowSizes
from itrd_nlp.tasks.trained import trained_lengths


def data() -> DataArguments:
    return DataArguments(validation_file="dev.json")


def lengths(folder: str | Path, *words: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    monkeypatch.setattr("sys.argv", ["itrd-nlp", *words])
    (given,) = parse([DataArguments])
    args = as_trained(given, str(folder))
    return args.max_length, args.doc_stride


def record(folder: Path, **content: Any) -> Path:
    (folder / "results.json").write_text(json.dumps({"f1": 50.0, "questions": 3, **content}))
    return folder


LENGTHS = {"arguments": {"max_length": 256, "doc_stride": 64, "learning_rate": 0.1}}


def test_the_lengths_of_the_record_are_taken(tmp_path: Path, monkeypatch: Any) -> None:
    record(tmp_path, **LENGTHS)
    assert lengths(tmp_path, monkeypatch=monkeypatch) == (256, 64)


@pytest.mark.parametrize("words", [("--max_length", "300"), ("--max-length=300",)])
def test_a_length_of_the_command_line_comes_first(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: Any
) -> None:
    record(tmp_path, **LENGTHS)
    assert lengths(tmp_path, *words, monkeypatch=monkeypatch) == (300, 64)


@pytest.mark.parametrize("max_length", [200, 256, 300])
def test_evaluate_and_predict_cut_the_same_windows(
    max_length: int, tmp_path: Path, monkeypatch: Any
) -> None:
    """Also where the stride of the training, 250, makes no sense in the windows asked for."""
    record(tmp_path, arguments={"max_length": 256, "doc_stride": 250})
    trained = trained_lengths(str(tmp_path), DataArguments)
    predicted = WindowSizes(512, trained).of(max_length=max_length)
    words = ("--max_length", str(max_length))
    assert lengths(tmp_path, *words, monkeypatch=monkeypatch) == predicted


@pytest.mark.parametrize("content", [{}, {"task": "embedding", **LENGTHS}])
def test_a_record_without_lengths_or_of_another_task_says_nothing(
    content: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    record(tmp_path, **content)
    default = (data().max_length, data().doc_stride)
    assert lengths(tmp_path, monkeypatch=monkeypatch) == default
    assert as_trained(data(), None) == data()


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match=r"results\.json is no JSON object"):
        as_trained(data(), str(tmp_path))
