"""A model is read at the lengths of its training, also a checkpoint of a run that has ended or not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from itrd_nlp.files import write_json
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.jobs import runs
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.trained import trained_lengths
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import RESULTS_NAME, UNFINISHED_NAME, RunRecord

RECORD = RunRecord(version=3, task="question-answering", arguments={"max_length": 256})
LENGTHS = {"max_length": 256, "doc_stride": DataArguments(validation_file="dev.json").doc_stride}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "checkpoint-500"
    folder.mkdir(parents=True)
    return folder


def test_a_run_that_has_ended(checkpoint: Path) -> None:
    RECORD.write(checkpoint.parent)
    for folder in (checkpoint.parent, checkpoint):
        assert trained_lengths(str(folder), DataArguments) == LENGTHS
        assert trained_lengths(str(folder), TextArguments) == {}  # another task


def test_a_checkpoint_of_a_run_that_is_not_finished(checkpoint: Path) -> None:
    def stopped(**_: Any) -> None:
        raise KeyboardInterrupt

    args = FineTuningArguments(output_dir=str(checkpoint.parent), report_to="none", use_cpu=True)
    trainer: Any = SimpleNamespace(args=args, is_world_process_zero=lambda: True, train=stopped)
    with pytest.raises(KeyboardInterrupt):
        runs.train(trainer, RECORD)
    assert trained_lengths(str(checkpoint), DataArguments) == LENGTHS
    assert RunRecord.read(checkpoint.parent) is None  # it is not taken for a finished one


@pytest.mark.parametrize("name", [RESULTS_NAME, UNFINISHED_NAME])
def test_a_checkpoint_beside_a_file_of_somebody_else(checkpoint: Path, name: str) -> None:
    (checkpoint.parent / name).write_text("A training of itrd_nlp writes into this folder.\n")
    assert trained_lengths(str(checkpoint), DataArguments) == {}


def test_a_folder_in_a_run_that_is_no_checkpoint(checkpoint: Path) -> None:
    write_json(checkpoint.parent / RESULTS_NAME, RECORD.as_json())
    other = checkpoint.rename(checkpoint.with_name("checkpoint-best"))
    assert trained_lengths(str(other), DataArguments) == {}
