"""`--tables_only` reads files that somebody may have changed: each fault is one sentence, and nothing is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from itrd_nlp.cli.commands import compare
from itrd_nlp.compare.records import RECORDS_NAME, SCORES_NAME, read_records, write_records
from itrd_nlp.errors import UserError

RESULTS = Path(__file__).parents[2] / "docs" / "results"
METRICS = {"metrics": {"exact_match": "EM", "f1": "F1"}, "main_metric": "f1"}


@pytest.fixture
def folder(make_outcome: Any, tmp_path: Path) -> Path:
    """The records of two methods and two seeds."""
    folder = tmp_path / "out"
    folder.mkdir()
    write_records(folder, *make_outcome({"kd": 0.5, "itrd": 0.6}, **METRICS))
    return folder


@pytest.fixture
def tables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the command. After an error the folder must be as it was."""
    config = folder.parent / "compare.yaml"
    content = {"base": "gone.yaml", "methods": {"kd": {}, "itrd": {}}, "output_dir": str(folder)}
    config.write_text(yaml.safe_dump(content))

    def tables(*options: str) -> None:
        words = ["itrd-nlp compare", str(config), "--tables_only", *options]
        monkeypatch.setattr(sys, "argv", words)
        before = {path: path.read_bytes() for path in folder.iterdir()}
        try:
            compare.main()
        except UserError:
            assert {path: path.read_bytes() for path in folder.iterdir()} == before
            raise

    return tables


def change(folder: Path, line: int, **changes: Any) -> None:
    """Give a line other fields; those that are `...` go."""
    path = folder / RECORDS_NAME
    records = [json.loads(text) for text in path.read_text().splitlines()]
    changed = records[line - 1] | changes
    records[line - 1] = {name: value for name, value in changed.items() if value is not ...}
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


def test_tables_have_the_columns_that_were_asked_for(tables: Any, folder: Path) -> None:
    tables("--table", "f1", "difference")
    assert (folder / "table.md").read_text().startswith("| student | method | F1 | F1 - kd [95%")


def test_a_column_that_is_none_is_refused_before_figures_are_written(tables: Any) -> None:
    with pytest.raises(UserError, match=r"table names 'f2', but its columns are layers, .*f1"):
        tables("--table", "f1", "f2")


def test_scores_with_a_byte_that_has_changed_are_damaged(folder: Path) -> None:
    path = folder / SCORES_NAME
    whole = path.read_bytes()
    for place in range(40, len(whole), 97):  # some are of no consequence
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            read_records(folder)
        except UserError as error:
            assert "scores.npz" in str(error)


def test_a_file_without_lines_is_refused(tables: Any, folder: Path) -> None:
    (folder / RECORDS_NAME).write_text("")
    with pytest.raises(UserError, match=r"results\.jsonl has no line"):
        tables()


def test_tries_of_a_search_alone_are_no_table(tables: Any, folder: Path) -> None:
    for line in range(1, 5):
        change(folder, line, stage="search")
    with pytest.raises(UserError, match="tries of a search alone"):
        tables()


TEACHER = {"layers": 6, "parameters": 1, "megabytes_fp32": 9.0, "exact_match": 70.0, "f1": 80.0}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"questions": ...}, "line 2: neither questions nor rows is there"),
        ({"f1": None}, "line 2: f1 is 'None': it should be a valid number"),
        ({"f1": ...}, "line 2 is no record"),
        ({"metrics": {"f1": 1, "exact_match": "EM"}}, r"line 2: metrics.f1 is '1'"),
        ({"metrics": {"f1": "F1"}}, "line 2 has the metrics f1, but line 1 has exact_match, f1"),
        ({"main_metric": "accuracy"}, "line 2: main_metric is 'accuracy', but must be one of"),
        ({"teacher": {}}, r"line 2: teacher\.layers is missing"),
        ({"teacher": TEACHER | {"weights": 5}}, r"line 2: teacher\.weights is '5'"),
        ({"datasets": 5}, "line 2: datasets is '5'"),
        ({"datasets": {"train": 5}}, r"line 2: datasets\.train is '5'"),
        ({"datasets": {"train": {"sha256": 5}}}, r"line 2: datasets\.train\.sha256 is '5'"),
        ({"teacher": TEACHER | {"f1": "x"}}, "line 2, teacher: f1 is 'x'"),
        ({"teacher": {k: v for k, v in TEACHER.items() if k != "f1"}}, r"teacher\.f1 is missing"),
    ],
)
def test_a_field_that_a_row_needs_is_named(
    tables: Any, folder: Path, changes: dict[str, Any], sentence: str
) -> None:
    change(folder, 2, **changes)
    with pytest.raises(UserError, match=sentence):
        tables()


def test_another_task_than_that_of_the_trainings_is_named(tables: Any, folder: Path) -> None:
    for line in range(1, 5):
        change(folder, line, main_metric=...)
    tables("--task", "question-answering")
    with pytest.raises(UserError, match="the task classification compares by accuracy"):
        tables("--task", "classification")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (None, "has no scores of T3/kd/seed0"),
        (np.zeros(7), r"T3/kd/seed0/f1 has the shape \(7,\), but"),
        (np.zeros((40, 1)), r"T3/kd/seed0/f1 has the shape \(40, 1\), but"),
    ],
)
def test_scores_that_do_not_belong_to_the_trainings_are_named(
    tables: Any, folder: Path, values: Any, sentence: str
) -> None:
    scores = dict(np.load(folder / SCORES_NAME))
    name = "T3/kd/seed0/f1"
    del scores[name]
    np.savez(folder / SCORES_NAME, **scores if values is None else scores | {name: values})
    with pytest.raises(UserError, match=sentence):
        tables()


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("*/results.jsonl")), ids=lambda p: p.parent.name
)
def test_the_files_of_earlier_versions_are_read(path: Path) -> None:
    records, scores = read_records(path.parent)
    assert records and scores
