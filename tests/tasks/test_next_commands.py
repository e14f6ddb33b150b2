"""The commands that a run shows at its end can be given as they are, but for the file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli.parser import parse
from itrd_nlp.tasks import TASKS, options_of, task_named
from itrd_nlp.tasks.next_commands import next_commands


def after(name: str, **options: Any) -> dict[str, str]:
    arguments, _ = options_of(name)
    return next_commands(task_named(name)(arguments(**options)), "runs/my model")


@pytest.mark.parametrize("name", TASKS)
def test_every_option_is_one_of_the_command(name: str) -> None:
    data, answers = options_of(name)
    for title, command in after(name).items():
        program, job, *words = shlex.split(command)
        assert (program, job) == ("itrd-nlp", title.lower())
        assert words[:2] == ["--model", "runs/my model"]
        own = [word for i, word in enumerate(words) if i > 3]
        parse([data if title == "Evaluate" else answers], own)


def test_a_table_is_read_by_the_columns_of_the_training() -> None:
    columns = {"text_column": "comment", "label_columns": ["is rude", "funny"]}
    found = after("classification", **columns, train_file="train.csv", max_length=64)
    assert found["Evaluate"].endswith(
        "--validation_file FILE --text_column comment --label_columns 'is rude' funny"
    )
    assert found["Predict"].endswith("--input FILE --text_column comment")


def test_what_is_judged_otherwise_is_named() -> None:
    assert after("question-answering", f1_unit="characters")["Evaluate"].endswith(
        "--validation_file FILE --f1_unit characters"
    )


def test_an_encoder_without_a_head_needs_its_teacher_and_answers_nothing() -> None:
    assert after("encoder").keys() == {"Evaluate"}
    assert after("encoder")["Evaluate"].endswith("--validation_file FILE --reference TEACHER")
    named = after("encoder", reference=str(Path("a") / "teacher"))
    assert named["Evaluate"].endswith("--reference a/teacher")
