"""`results.jsonl` and `scores.npz`: all that tables and figures are made of, small enough to be committed."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from itrd_nlp.compare.launching import starts
from itrd_nlp.compare.plan import Cell
from itrd_nlp.compare.setting import Setting
from itrd_nlp.compare.tables import SOURCES
from itrd_nlp.errors import UserError
from itrd_nlp.files import (
    parse_json,
    read_bytes,
    read_json,
    read_text,
    replacing,
    write_text,
    writing,
)
from itrd_nlp.publish.report.data import ANALYSIS_NAME, HISTORY_NAME, PREDICTIONS_NAME
from itrd_nlp.training.record import RunRecord, recorded_metrics, validated

RECORDS_NAME = "results.jsonl"
SCORES_NAME = "scores.npz"
# Fields of a run's record that stand in the records of a comparison, too, beside its scores.
RESULTS = (
    "task",
    "metrics",
    "questions",
    "rows",
    "signature",
    "layers",
    "parameters",
    "megabytes_fp32",
    "steps",
    "precision",
    "layer_pairs",
    "datasets",
    "teacher",
    "environment",
    "decoding",
    "perplexity",
)
# A record must have these fields and its metrics for tables and figures.
RECORD = {
    "stage",
    "name",
    "student",
    "method",
    "signature",
    "layers",
    "parameters",
    "megabytes_fp32",
    "teacher",
    "train_seconds",
    "cost",
    "curves",
}

Finite = Annotated[float, Field(allow_inf_nan=False)]


class StoredTeacher(BaseModel):
    """The fields of a teacher that its row of the table has, beside its scores."""

    model_config = ConfigDict(extra="allow")
    layers: int
    parameters: int
    megabytes_fp32: Finite
    weights: str | None = None  # files of earlier versions lack it


class StoredData(BaseModel):
    """The field of a file of data by which trainings on other data are told apart."""

    model_config = ConfigDict(extra="allow")
    sha256: str | None = None


class StoredScores(BaseModel):
    """The metrics of a line, or of its teacher."""

    metrics: dict[str, str]
    scores: dict[str, Finite]


class StoredRecord(BaseModel):
    """The fields of a line that tables and figures compute with."""

    model_config = ConfigDict(extra="allow")
    stage: str
    name: str
    student: str
    method: str
    seed: int
    number: int
    signature: str
    layers: int
    parameters: int
    megabytes_fp32: Finite
    teacher: StoredTeacher
    train_seconds: Finite | None
    cost: Finite | None
    curves: dict[str, list[tuple[int, Finite]]]
    datasets: dict[str, StoredData] | None = None
    main_metric: str | None = None  # files of earlier versions lack it
    questions: int | None = None
    rows: int | None = None

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.questions is None and self.rows is None:
            raise ValueError("neither questions nor rows is there")
        return self


Record = dict[str, Any]
Scores = dict[str, NDArray[Any]]


def collect(
    setting: Setting, cells: Sequence[Cell], costs: Sequence[Cell] = ()
) -> tuple[list[Record], Scores]:
    """The records of those trainings that are finished.

    Args:
        setting: the task they are of.
        cells: of any stage; those that are not finished are passed over.
        costs: the cells that measured a step's time.

    Returns:
        One record a training, and of those of the stage `cells` the scores of every example in their order:
        ``NAME/METRIC``, from 0 to 1, as float32; as uint8 where all are 0 or 1 of a metric that is not the main one.
        Beside them ``STUDENT/sources``, the source of every example, where the task knows it.

    Raises:
        UserError: predictions and results of a training contradict each other.
    """
    task = setting.task
    seconds = {(c.student, c.method): _seconds_a_step(c) for c in costs}
    records: list[Record] = []
    scores: Scores = {}
    for cell in cells:
        results = cell.results()
        if results is None:
            continue
        args = setting.data(cell.config)
        main = task(args).measures.main
        records.append(_record(cell, results, main, seconds.get((cell.student, cell.method))))
        if cell.stage == "cells":
            answers = read_json(cell.folder / ANALYSIS_NAME / PREDICTIONS_NAME)
            for name, values in task.scores(args, answers).items():
                _check(cell, name, 100 * values.mean(), results)
                exact = name != main and np.isin(values, (0, 1)).all()
                scores[f"{cell.name}/{name}"] = values.astype(np.uint8 if exact else np.float32)
            if f"{cell.student}/{SOURCES}" not in scores:
                sources = task.sources(args)
                if sources is not None:
                    scores[f"{cell.student}/{SOURCES}"] = sources.astype(np.int32)
    return records, scores


def _record(cell: Cell, results: RunRecord, main: str, cost: float | None) -> Record:
    """The record of one training, as a line of the file holds it."""
    stored = results.as_json()
    analysis = cell.folder / ANALYSIS_NAME
    answers = read_bytes(analysis / PREDICTIONS_NAME)
    # Records of earlier versions hold the time of the last part of a training that was taken up again.
    whole = results.knows_the_whole or starts(cell) < 2
    return {
        "stage": cell.stage,
        "name": cell.name,
        "student": cell.student,
        "method": cell.method,
        "number": cell.number,
        "seed": cell.config["seed"],
        "overrides": cell.overrides,
        **{name: stored[name] for name in (*results.metrics, *RESULTS) if name in stored},
        "main_metric": main,
        "train_seconds": results.train_seconds if whole else None,
        "cost": cost,
        "predictions_sha256": hashlib.sha256(answers).hexdigest(),
        "curves": _curves(analysis / HISTORY_NAME, ("task", f"eval_{main}")),
    }


def has_sources(scores: Scores) -> bool:
    """Whether the sources of the examples are known. Files of earlier versions lack them."""
    return any(name.endswith(f"/{SOURCES}") for name in scores)


def write_records(folder: Path, records: Sequence[Record], scores: Scores) -> None:
    """Write both files under a temporary name and rename them."""
    with writing(folder, "The trainings are as they were."):
        with replacing(folder / SCORES_NAME, "wb") as file:
            np.savez_compressed(file, **scores)  # type: ignore[arg-type]
        write_text(folder / RECORDS_NAME, "".join(json.dumps(r) + "\n" for r in records))


def read_records(folder: Path) -> tuple[list[Record], Scores]:
    """Read what `write_records` wrote.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    path = folder / RECORDS_NAME
    if not path.is_file():
        raise UserError(f"{path} does not exist, so there is nothing to make tables of.")
    records: list[Record] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            record = parse_json(line)
            complete = record.keys() >= RECORD | recorded_metrics(record).keys()
        except (AttributeError, ValueError):
            complete = False
        if not complete:
            raise UserError(f"{path}: line {number} is no record of a training.")
        _check_record(f"{path}, line {number}", record)
        records.append(record)
    if not records:
        raise UserError(f"{path} has no line, so there is nothing to make tables of.")
    try:
        with np.load(folder / SCORES_NAME) as arrays:
            scores = dict(arrays)
    except (OSError, ValueError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile):
        raise UserError(f"{folder / SCORES_NAME} is missing or damaged.") from None
    _check_scores(folder, records, scores)
    return records, scores


def _check_record(where: str, record: Record) -> None:
    """Refuse a line with a field that no table can use, by its name."""
    validated(where, StoredRecord, record)
    metrics = recorded_metrics(record)
    for owner, found in (("", record), ("teacher.", record["teacher"])):
        missing = [name for name in metrics if name not in found]
        if missing:
            raise UserError(f"{where}: {owner}{missing[0]} is missing.")
        of = f"{where}, {owner.rstrip('.')}" if owner else where
        values = {name: found[name] for name in metrics}
        validated(of, StoredScores, {"metrics": metrics, "scores": values})
    main = record.get("main_metric")
    if main is not None and main not in metrics:
        raise UserError(
            f"{where}: main_metric is {main!r}, but must be one of the metrics {', '.join(metrics)}."
        )


def _check_scores(folder: Path, records: Sequence[Record], scores: Scores) -> None:
    """Refuse scores that do not belong to the trainings."""
    path = folder / SCORES_NAME
    lengths: dict[str, int] = {}
    for record in records:
        if record["stage"] != "cells":
            continue
        own = {k: v for k, v in scores.items() if k.startswith(f"{record['name']}/")}
        main = record.get("main_metric")  # files of earlier versions lack it
        if not own or (main is not None and f"{record['name']}/{main}" not in own):
            raise UserError(
                f"{path} has no scores of {record['name']}, which {folder / RECORDS_NAME} names."
            )
        sources = f"{record['student']}/{SOURCES}"
        own |= {sources: scores[sources]} if sources in scores else {}
        for name, values in own.items():
            length = lengths.setdefault(record["student"], len(values) if values.ndim else 0)
            if values.dtype.kind not in "biuf" or values.shape != (length,):
                raise UserError(
                    f"{path}: {name} has the shape {values.shape}, but must have a number for each of the {length} "
                    f"examples that {record['student']} was judged on."
                )


def _seconds_a_step(cell: Cell) -> float | None:
    results = cell.results()
    if results is None or results.train_seconds is None or not results.steps:
        return None
    return results.train_seconds / results.steps


def _curves(path: Path, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    """The task loss and the main metric over the steps, as far as the training logged them."""
    history = read_json(path)
    return {
        name: [(row["step"], round(row[name], 4)) for row in history if name in row]
        for name in names
    }


def _check(cell: Cell, name: str, found: float, results: RunRecord) -> None:
    if abs(found - results.scores[name]) > 1e-3:
        raise UserError(
            f"{cell.folder}: the answers have {name} {found:.3f} on the validation questions, but results.json says "
            f"{results.scores[name]:.3f}; the file of the questions or the answers have changed since."
        )
