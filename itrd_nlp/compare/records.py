"""`results.jsonl` and `scores.npz`: all that tables and figures are made of, small enough to be committed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from itrd_nlp.compare.plan import Cell
from itrd_nlp.compare.runner import starts
from itrd_nlp.compare.statistics import question_scores
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_text, writing
from itrd_nlp.publish.report.data import ANALYSIS_NAME, HISTORY_NAME
from itrd_nlp.tasks.question_answering.analysis import PREDICTIONS_NAME
from itrd_nlp.tasks.question_answering.data import DataArguments, load_validation_examples
from itrd_nlp.tasks.question_answering.evaluation import load_predictions

RECORDS_NAME = "results.jsonl"
SCORES_NAME = "scores.npz"
# As they stand in results.json.
RESULTS = (
    *("exact_match", "f1", "questions", "signature", "layers", "parameters", "megabytes_fp32"),
    *("steps", "layer_pairs", "datasets", "teacher", "environment"),
)
CURVES = ("task", "eval_f1")
# What a record must have for tables and figures.
RECORD = {
    *(
        "stage",
        "name",
        "student",
        "method",
        "exact_match",
        "f1",
        "questions",
        "signature",
        "layers",
    ),
    *("parameters", "megabytes_fp32", "teacher", "train_seconds", "cost", "curves"),
}

Record = dict[str, Any]
Scores = dict[str, NDArray[Any]]


def collect(cells: Sequence[Cell], costs: Sequence[Cell] = ()) -> tuple[list[Record], Scores]:
    """What the finished ones of these trainings left.

    Args:
        cells: of any stage; those that are not finished are passed over.
        costs: the cells that measured a step's time.

    Returns:
        One record a training, and of those of the stage `cells` the scores of every question: ``NAME/f1`` (float16,
        from 0 to 1) and ``NAME/exact_match`` (uint8), in the order of the validation questions.

    Raises:
        UserError: predictions and results of a training contradict each other.
    """
    seconds = {(c.student, c.method): _seconds_a_step(c) for c in costs}
    questions: dict[str, Dataset] = {}
    records: list[Record] = []
    scores: Scores = {}
    for cell in cells:
        results = cell.results()
        if results is None:
            continue
        analysis = cell.folder / ANALYSIS_NAME
        predictions = analysis / PREDICTIONS_NAME
        # A training that was taken up again knows the time of its last part only.
        whole = starts(cell) < 2
        records.append(
            {
                "stage": cell.stage,
                "name": cell.name,
                "student": cell.student,
                "method": cell.method,
                "number": cell.number,
                "seed": cell.config["seed"],
                "overrides": cell.overrides,
                **{name: results[name] for name in RESULTS if name in results},
                "train_seconds": results["train_seconds"] if whole else None,
                "cost": seconds.get((cell.student, cell.method)),
                "predictions_sha256": hashlib.sha256(predictions.read_bytes()).hexdigest(),
                "curves": _curves(analysis / HISTORY_NAME),
            }
        )
        if cell.stage == "cells":
            data = _data_arguments(cell)
            key = repr(data)
            if key not in questions:
                questions[key] = load_validation_examples(data)
            f1, exact_match = question_scores(load_predictions(predictions), questions[key])
            _check(cell, "f1", 100 * f1.mean(), results)
            _check(cell, "exact_match", 100 * exact_match.mean(), results)
            scores[f"{cell.name}/f1"] = f1.astype(np.float16)
            scores[f"{cell.name}/exact_match"] = exact_match.astype(np.uint8)
    return records, scores


def write_records(folder: Path, records: Sequence[Record], scores: Scores) -> None:
    """Write both files under a temporary name and rename them."""
    lines, arrays = folder / (RECORDS_NAME + ".tmp"), folder / ("tmp." + SCORES_NAME)
    with writing(folder, "The trainings are as they were."):
        write_text(lines, "".join(json.dumps(r) + "\n" for r in records))
        np.savez_compressed(arrays, **scores)  # type: ignore[arg-type]
        arrays.replace(folder / SCORES_NAME)
        lines.replace(folder / RECORDS_NAME)


def read_records(folder: Path) -> tuple[list[Record], Scores]:
    """Read what `write_records` wrote.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    path = folder / RECORDS_NAME
    if not path.is_file():
        raise UserError(f"{path} does not exist, so there is nothing to make tables of.")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            complete = record.keys() >= RECORD
        except (AttributeError, ValueError):
            complete = False
        if not complete:
            raise UserError(f"{path}: line {number} is no record of a training.")
        records.append(record)
    try:
        with np.load(folder / SCORES_NAME) as arrays:
            scores = dict(arrays)
    except (OSError, ValueError):
        raise UserError(f"{folder / SCORES_NAME} is missing or damaged.") from None
    for record in records:
        if record["stage"] == "cells" and f"{record['name']}/f1" not in scores:
            raise UserError(
                f"{folder / SCORES_NAME} has no scores of {record['name']}, which {path} names."
            )
    return records, scores


def _data_arguments(cell: Cell) -> DataArguments:
    names = {f.name for f in fields(DataArguments)}
    return DataArguments(**{n: value for n, value in cell.config.items() if n in names})


def _seconds_a_step(cell: Cell) -> float | None:
    results = cell.results()
    return None if results is None else results["train_seconds"] / results["steps"]


def _curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """The task loss and the F1 over the steps, as far as the training logged them."""
    history = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: [(row["step"], round(row[name], 4)) for row in history if name in row]
        for name in CURVES
    }


def _check(cell: Cell, name: str, found: float, results: Mapping[str, Any]) -> None:
    if abs(found - results[name]) > 1e-3:
        raise UserError(
            f"{cell.folder}: the answers have {name} {found:.3f} on the validation questions, but results.json says "
            f"{results[name]:.3f}; the file of the questions or the answers have changed since."
        )
