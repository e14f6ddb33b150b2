"""The lengths of the texts in the training of a model, by its results.json. No import here loads torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from itrd_nlp.errors import UserError
from itrd_nlp.models.onnx_record import LENGTHS
from itrd_nlp.tasks import DEFAULT_TASK, TASKS, options_of
from itrd_nlp.tasks.question_answering.window_sizes import WindowSizes
from itrd_nlp.training.record import RESULTS_NAME, UNFINISHED_NAME, RunRecord
from itrd_nlp.training.roles import default_of

CHECKPOINT = re.compile(r"checkpoint-\d+")


def trained_lengths(model: str, arguments: type, revision: str | None = None) -> dict[str, int]:
    """The lengths that a model was trained with.

    A model that reads texts of another length is not the one that was trained, and its answers are not those that its
    training reports.

    Args:
        model: folder, ONNX folder, checkpoint of a run or model id.
        arguments: the dataclass of a task's data.
        revision: branch, tag or commit of a model id. Default: its main branch.

    Returns:
        ``max_length``, and ``doc_stride`` where the task has one. A record names what is not the default, so the others
        are the defaults of ``arguments``. Empty where there is no record of a run on the task.

    Raises:
        UserError: the results.json of a folder cannot be read.
    """
    record = record_of(model, revision)
    if record is None:
        return {}
    name = record.task or DEFAULT_TASK  # version 1 had one task
    if name not in TASKS or options_of(name)[0] is not arguments:
        return {}
    defaults = {f.name: default_of(f) for f in fields(arguments) if f.name in LENGTHS}
    given = {n: v for n, v in record.arguments.items() if n in defaults and isinstance(v, int)}
    return defaults | given


def lengths_to_read(trained: Mapping[str, int], given: Mapping[str, int]) -> dict[str, int]:
    """The lengths at which a model reads texts: those given, else those of its training.

    Args:
        trained: what `trained_lengths` returned.
        given: some of the same names.

    Raises:
        UserError: the lengths make no sense together.
    """
    if "doc_stride" not in trained:
        return {**trained, **given}
    return dict(zip(LENGTHS, WindowSizes(None, trained).of(**given), strict=True))


def record_of(model: str, revision: str | None = None) -> RunRecord | None:
    """The record of the run that has made a model. A model of the Hub may have none, or a file of another program.

    Args:
        model: folder, ONNX folder, checkpoint of a run or model id. A checkpoint has the record of its run, with the
            scores of the last step.
        revision: branch, tag or commit of a model id. Default: its main branch.

    Raises:
        UserError: the results.json of a folder cannot be read.
    """
    if Path(model).exists():
        return RunRecord.read(model) or _record_of_checkpoint(Path(model))
    from transformers.utils import cached_file  # slow to import

    try:
        found = cached_file(model, RESULTS_NAME, revision=revision)
        return None if found is None else RunRecord.read(Path(found).parent)
    except (OSError, UserError):
        return None


def _record_of_checkpoint(folder: Path) -> RunRecord | None:
    """The record of the run that a folder is a checkpoint of, whether the run has ended or not."""
    if CHECKPOINT.fullmatch(folder.resolve().name) is None:
        return None
    run = folder.resolve().parent
    try:
        return RunRecord.read(run) or RunRecord.read(run, UNFINISHED_NAME)
    except UserError:  # a sentence of an earlier version, or a file of somebody else
        return None
