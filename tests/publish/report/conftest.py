"""The folder of a small run, as a training leaves it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.publish.report.analysis import write_analysis
from itrd_nlp.tasks.jobs.report import write_report
from itrd_nlp.tasks.question_answering.analysis import disagreements
from itrd_nlp.tasks.question_answering.breakdown import breakdown

HOSTILE = """<script>window.hacked = true</script>"""
WORDS = ("Who", "What", "When", "Where", "How many", "How", "Which", "In")


def example_rows() -> list[dict[str, Any]]:
    """60 questions of many types, the first of them with markup in all of its texts."""
    rows = []
    for i in range(60):
        answer = " ".join(f"word{i}" for _ in range(1 + i % 6)) + f" “{i}”"
        context = f"Before it. Here {answer} stands, in the year {1900 + i}.\nAfter it."
        question = f"{WORDS[i % len(WORDS)]} stands there in case {i}?"
        if i == 0:
            context = f"{HOSTILE} Say \"five\" & 'six' <b>{answer}</b> here."
            question = f"Who is {HOSTILE}?"
        rows.append(
            {
                "id": str(i),
                "question": question,
                "context": context,
                "answers": {"text": [answer], "answer_start": [context.index(answer)]},
            }
        )
    return rows


def example_history() -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for step in range(10, 130, 10):
        decay = math.exp(-step / 60)
        row = {"step": step, "epoch": step / 120, "loss": 20 * decay, "task": 5 * decay}
        row |= {"kd": 9 * decay, "corr": 6 - 3 * decay, "mi": decay, "learning_rate": 1e-4}
        for i, pair in enumerate(("1:2", "2:4")):
            row |= {f"corr_{pair}": 5 * decay - i, f"mi_{pair}": decay / (i + 2)}
            row |= {f"correlation_{pair}": 1 - decay / (i + 1)}
        rows.append(row)
    rows.insert(6, {"step": 60, "eval_f1": 41.5, "eval_exact_match": 30.5})
    rows.append({"step": 120, "eval_f1": 61.5, "eval_exact_match": 50.5})
    rows.append({"step": 120, "train_runtime": 10.5, "train_loss": 9.9})
    return rows


def matrices(rows: int, columns: int, shift: float) -> dict[str, Any]:
    values = [
        [max(0.0, 1 - shift - abs(i / rows - j / columns)) for j in range(columns)]
        for i in range(rows)
    ]
    return {"tokens": 4096, "cka": values, "correlation": values}


def example_results() -> dict[str, Any]:
    return {
        "version": 3,
        "exact_match": 48.0,
        "f1": 60.0,
        "questions": 60,
        "layers": 2,
        "parameters": 17_242_754,
        "megabytes_fp32": 69.0,
        "ms_per_question": 4.0,
        "train_seconds": 210.2,
        "environment": {"itrd_nlp": "0.1.0", "torch": "2.13.0"},
        "teacher": {
            "name": "a-teacher",
            "exact_match": 72.0,
            "f1": 80.0,
            "questions": 60,
            "layers": 4,
            "parameters": 22_566_146,
            "megabytes_fp32": 90.3,
            "ms_per_question": 8.0,
        },
        "layer_pairs": ["1:2", "2:4"],
        "arguments": {
            "teacher": "/home/ada/models of mine/a-teacher",
            "learning_rate": 3e-4,
            "bf16": True,
            "layer_map": ["1:2", "2:4"],
        },
        "command": "scripts/train_squad.py my.yaml --teacher '/home/ada/models of mine/a-teacher'",
        "config": {"name": "my.yaml", "text": "teacher: /home/ada/models of mine/a-teacher\n"},
    }


def save_analysis(
    folder: Path,
    *,
    examples: list[dict[str, Any]],
    predictions: dict[str, str],
    teacher_predictions: dict[str, str] | None = None,
    **others: Any,
) -> None:
    """Write the analysis of answers as a run does, see `itrd_nlp.tasks.jobs.runs.write_run`."""
    groups = {"student": breakdown(predictions, examples)}
    differing = None
    if teacher_predictions is not None:
        groups["teacher"] = breakdown(teacher_predictions, examples)
        differing = disagreements(predictions, teacher_predictions, examples)
    write_analysis(
        folder,
        predictions=predictions,
        teacher_predictions=teacher_predictions,
        breakdown=groups,
        disagreements=differing,
        **others,
    )


def write_run(
    parent: Path, results: dict[str, Any] | None = None, *, name: str = "my_student", **changes: Any
) -> Path:
    """Write the folder of a run; arguments replace those of `save_analysis` or the results."""
    folder = parent / name
    folder.mkdir(exist_ok=True)
    content = example_results() if results is None else results
    (folder / "results.json").write_text(json.dumps(content))
    rows = example_rows()
    right = {row["id"]: row["answers"]["text"][0] for row in rows}
    # two of three differ: nothing, or too much
    other = {i: (text, "", f"Here {text}")[int(i) % 3] for i, text in right.items()}
    other["0"] = HOSTILE
    pieces: dict[str, Any] = {
        "examples": rows,
        "predictions": other,
        "teacher_predictions": right,
        "history": example_history(),
        "similarity": {"before": matrices(3, 5, 0.3), "after": matrices(3, 5, 0.0)},
    }
    save_analysis(folder, **(pieces | changes))
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    return partial(write_run, tmp_path)


@pytest.fixture(scope="session")
def finished_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that has left everything; not to be changed."""
    return write_report(write_run(tmp_path_factory.mktemp("finished")))
