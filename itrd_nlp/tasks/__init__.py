"""Tasks, one folder each, and the jobs that are written once for all of them.

A task knows its data, its head and its metrics. A job trains, evaluates, predicts, exports or publishes. Nothing here
parses a command line; a new task is a folder and one line in `TASKS`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from itrd_nlp.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from itrd_nlp.tasks.task import Task

# Name to module and class. They are imported when they are asked for, because each brings its libraries along.
TASKS = {
    "question-answering": ("itrd_nlp.tasks.question_answering.task", "QuestionAnswering"),
    "classification": ("itrd_nlp.tasks.classification.task", "Classification"),
    "reranking": ("itrd_nlp.tasks.reranking.task", "Reranking"),
    "embedding": ("itrd_nlp.tasks.embedding.retrieval", "Embedding"),
    "sentence-similarity": ("itrd_nlp.tasks.embedding.similarity", "SentenceSimilarity"),
    "masked-lm": ("itrd_nlp.tasks.masked_lm.task", "MaskedLM"),
    "encoder": ("itrd_nlp.tasks.masked_lm.encoder", "Encoder"),
}
# Name to the module that declares the task's options, and to the dataclasses of its data and of its answers there. The
# help of a command takes them from here, so that it need not import the task.
OPTIONS = {
    "question-answering": (
        "itrd_nlp.tasks.question_answering.arguments",
        "DataArguments",
        "AnswerArguments",
    ),
    "classification": (
        "itrd_nlp.tasks.classification.arguments",
        "TextArguments",
        "LabelArguments",
    ),
    "reranking": (
        "itrd_nlp.tasks.reranking.arguments",
        "RankingArguments",
        "QueryArguments",
    ),
    "embedding": (
        "itrd_nlp.tasks.embedding.arguments",
        "EmbeddingArguments",
        "EncodedArguments",
    ),
    "sentence-similarity": (
        "itrd_nlp.tasks.embedding.arguments",
        "EmbeddingArguments",
        "EncodedArguments",
    ),
    "masked-lm": (
        "itrd_nlp.tasks.masked_lm.arguments",
        "MaskedLMArguments",
        "MaskArguments",
    ),
    "encoder": (
        "itrd_nlp.tasks.masked_lm.arguments",
        "EncoderArguments",
        "NoArguments",
    ),
}
DEFAULT_TASK = "question-answering"


def task_named(name: str) -> type[Task]:
    """The task of this name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(
            f"task is {name!r}, but must be one of {', '.join(TASKS)}{did_you_mean(name, TASKS)}"
        )
    module, cls = TASKS[name]
    task: type[Task] = getattr(importlib.import_module(module), cls)
    return task


def options_of(name: str) -> tuple[type, type]:
    """The dataclasses of a task's data and of its answers, without its libraries where `OPTIONS` names them.

    Raises:
        UserError: there is no such task.
    """
    if name not in OPTIONS:
        task = task_named(name)
        return task.arguments, task.answer_arguments
    module, data, answers = OPTIONS[name]
    options = importlib.import_module(module)
    return getattr(options, data), getattr(options, answers)


def task_of(folder: str | Path, *, hub: bool = False, revision: str | None = None) -> type[Task]:
    """The task of a model or of a finished run, by its record or by its head.

    Args:
        folder: of the model, or its id on the Hub.
        hub: whether the Hub is asked about an id.
        revision: branch, tag or commit there. Default: the main branch.

    Raises:
        UserError: no task has such a head.
    """
    from itrd_nlp.tasks.task import architecture_of, fits
    from itrd_nlp.training.record import RESULTS_NAME, RunRecord

    record = RunRecord.read(folder)
    architecture = architecture_of(folder, hub=hub, revision=revision)
    if record is None and architecture is None:
        return task_named(DEFAULT_TASK)  # the job says what is missing
    for name in TASKS:
        if fits(task_named(name), record, architecture):
            return task_named(name)
    if record is not None and record.task is not None:
        found = (
            f"{Path(folder) / RESULTS_NAME} is of the task {record.task}, which is not registered"
        )
    elif architecture is not None:
        found = f"{folder} holds a {architecture}"
    else:
        found = (
            f"{folder} holds a {RESULTS_NAME} of an unknown task, and no model whose head names one"
        )
    raise UserError(f"{found}; the tasks are {', '.join(TASKS)}, and --task names one.")
