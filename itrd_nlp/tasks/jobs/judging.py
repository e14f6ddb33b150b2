"""Judge several forms of a model on the same examples: scores, size, speed, and the answers that stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.answers import check_scores, share_of_same
from itrd_nlp.tasks.jobs.speed import AnyModel, milliseconds_per_question, model_logits
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.training.ranges import Range
from itrd_nlp.training.terminal import print_table

Rows = dict[str, dict[str, float]]


def judge_forms(
    task: Task,
    models: Mapping[str, AnyModel],
    megabytes: Mapping[str, float],
    data: TaskData,
    *,
    batch_size: int,
) -> Rows:
    """Judge the forms of a model, which take turns on every batch.

    Args:
        task: the task.
        models: name of a form to the model. The answers of the first one are those that the others may keep.
        megabytes: name to the size of its weights, in units of 1e6 bytes.
        data: the examples.
        batch_size: features a batch, where scores and examples a second are measured.

    Returns:
        Name to a row: the metrics in percent, ``same_answers`` in percent (see `share_of_same`), the examples a second
        (such as ``questions_per_second``), the milliseconds for one example at batch size 1, and ``megabytes``.

    Raises:
        UserError: the judge refuses the outputs of a form, or its score is no finite number.
    """
    logits = model_logits(
        models,
        data.evaluation,
        data.collator,
        batch_size=batch_size,
        reduce=data.preprocess_logits,
    )
    milliseconds = milliseconds_per_question(models, data.evaluation, data.collator)
    unit, one, first = task.page.unit, task.page.one, next(iter(models))
    rows: Rows = {}
    answers = {}
    for name, (values, seconds) in logits.items():
        metrics = data.judge(_prediction(values))
        check_scores({metric: metrics[metric] for metric in task.metrics_of(data)})
        answers[name] = data.judge.predictions
        rows[name] = {
            **metrics,
            "same_answers": share_of_same(answers[first], answers[name]),
            f"{unit}_per_second": len(answers[name]) / seconds,
            f"milliseconds_per_{one}": milliseconds[name],
            "megabytes": megabytes[name],
        }
    return rows


def check_judging(max_f1_drop: float, batch_size: int) -> None:
    """Refuse limits that make no sense, before the work.

    Raises:
        UserError: names the argument.
    """
    allowed = Range(least=0)  # nan would let every model pass
    if max_f1_drop not in allowed:
        raise UserError(f"max_f1_drop is {max_f1_drop}, but must be {allowed}.")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1.")


def too_lossy(
    task: Task, data: TaskData, rows: Rows, name: str, label: str, allowed: float
) -> str | None:
    """Say that a form loses too much against the first one. It is None if the form may be kept.

    Args:
        task: with the main metric.
        data: the examples.
        rows: of `judge_forms`.
        name: of the form in ``rows``.
        label: of the form in the sentence.
        allowed: the largest loss, in points.

    Returns:
        The beginning of a sentence.
    """
    headings, main = task.measures
    loss = next(iter(rows.values()))[main] - rows[name][main]
    if loss <= allowed:
        return None
    return (
        f"{label} loses {loss:.2f} {headings[main]} on {len(data.examples)} {task.page.unit}, more than "
        f"max_f1_drop={allowed:g}: it is not kept"
    )


def print_forms(rows: Rows, title: str, task: Task, data: TaskData) -> None:
    """Print a table with a row for each form. Its title begins with the number of examples."""
    metrics = task.metrics_of(data)
    unit, one = task.page.unit, task.page.one
    numbers = ("MB", *metrics.values(), f"as {next(iter(rows))}", f"{unit}/s", f"ms/{one}")
    cells = [
        [
            name,
            f"{row['megabytes']:.1f}",
            *(f"{row[metric]:.2f}" for metric in metrics),
            f"{row['same_answers']:.1f} %",
            f"{row[f'{unit}_per_second']:.1f}",
            f"{row[f'milliseconds_per_{one}']:.1f}",
        ]
        for name, row in rows.items()
    ]
    print_table(
        f"{len(data.examples)} {unit}, {title}",
        [("model", "left"), *((heading, "right") for heading in numbers)],
        cells,
    )


def _prediction(values: tuple[Any, ...]) -> EvalPrediction:
    """Logits as a trainer hands them to the judge."""
    outputs: Any = values if len(values) > 1 else values[0]  # typed as a single array
    nothing: Any = None  # the judge has the labels
    return EvalPrediction(predictions=outputs, label_ids=nothing)
