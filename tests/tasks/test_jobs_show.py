"""The last screen of a run: the models, what the student saves, and the commands that come next."""

from __future__ import annotations

import pytest
from rich.console import Console

from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.classification.task import Classification
from itrd_nlp.tasks.jobs.runs import show
from itrd_nlp.training.record import ModelRecord, RunRecord

TASK = Classification(TextArguments())


def record(**changes):
    teacher = ModelRecord(
        layers=6, parameters=22_600_000, scores={"accuracy": 90.0, "f1": 88.5}, ms_per_question=20.0
    )
    known = {
        "layers": 3,
        "parameters": 17_200_000,
        "scores": {"accuracy": 89.0, "f1": 87.25},
        "ms_per_question": 8.0,
        "train_seconds": 61.2,
        "metrics": {"accuracy": "accuracy", "f1": "F1"},
        "teacher": teacher,
    }
    return RunRecord.model_validate(known | changes)


@pytest.fixture
def screen(capsys, monkeypatch):
    # Not os.environ: datasets puts a copy in its place when it maps with processes, and rich keeps the first one.
    monkeypatch.setitem(Console._environ, "COLUMNS", "120")

    def screen(**changes):
        show(record(**changes), "student", "Distilled: runs/x", TASK, "runs/x")
        return capsys.readouterr().out

    return screen


def test_both_models_have_a_row_with_scores_size_and_speed(screen):
    lines = screen().splitlines()
    (teacher,) = (line for line in lines if line.startswith("│ teacher"))
    (student,) = (line for line in lines if line.startswith("│ student"))
    assert [cell.strip() for cell in teacher.split("│")[1:-1]] == [
        *("teacher", "6", "22.6 M", "90.00", "88.50", "20.0", ""),
    ]
    assert [cell.strip() for cell in student.split("│")[1:-1]] == [
        *("student", "3", "17.2 M", "89.00", "87.25", "8.0", "61"),
    ]


def test_the_speed_of_the_student_is_a_ratio(screen):
    assert "The student is 2.50 times as fast as its teacher at batch size 1." in screen()
    assert "times as fast" not in screen(ms_per_question=None)


def test_a_column_that_nobody_knows_is_left_out(screen):
    assert "MB" not in screen()
    assert "MB (fp32)" in screen(megabytes_fp32=69.0)


def test_the_commands_that_come_next_name_the_folder(screen):
    shown = screen()
    assert "runs/x/report.html" in shown
    assert "itrd-nlp predict --model runs/x" in shown
    assert "itrd-nlp push-to-hub --model runs/x" in shown
