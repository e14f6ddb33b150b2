"""A run from its first record to its last: what is checked, trained, written, shown and pushed."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers.utils import CONFIG_NAME

from itrd_nlp.distillation.arguments import fill_in_objective
from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json, read_text, write_json, write_text, writing
from itrd_nlp.models.lengths import check_rows
from itrd_nlp.publish.hub import push_model
from itrd_nlp.publish.hub_files import check_model
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.publish.licenses import CARD_NAME
from itrd_nlp.publish.model_card import is_generated, model_card
from itrd_nlp.publish.report import REPORT_NAME, write_report
from itrd_nlp.publish.report.analysis import write_analysis
from itrd_nlp.tasks.jobs.run_folder import UNFINISHED, finished_run, remove_results
from itrd_nlp.tasks.next_commands import next_commands
from itrd_nlp.tasks.task import Answers, Task, TaskData
from itrd_nlp.training.arguments import FineTuningArguments, output_folder
from itrd_nlp.training.record import (
    RESULTS_NAME,
    UNFINISHED_NAME,
    VERSION,
    ModelRecord,
    RunRecord,
    validated,
)
from itrd_nlp.training.results import environment, print_summary

logger = logging.getLogger(__name__)


def check_best_metric(args: FineTuningArguments, task: Task, metrics: Mapping[str, str]) -> None:
    """Refuse a metric that no evaluation has, which the first evaluation of a training would find out.

    Args:
        args: of the training.
        task: the task.
        metrics: those that an evaluation may have: of any data before they are read, and then of those at hand.

    Raises:
        UserError: names the metrics.
    """
    name, known = args.metric_for_best_model, list(metrics)
    if task.has_evaluation_loss:
        known = ["loss", *known]
    chooses = args.load_best_model_at_end or args.save_strategy == "best"
    if not chooses and args.lr_scheduler_type != "reduce_lr_on_plateau":
        return
    if name is None and not task.has_evaluation_loss:
        name = "loss"  # the default of transformers
    if name is not None and name.removeprefix("eval_") not in known:
        raise UserError(
            f"metric_for_best_model is {name!r}, but must be one of {', '.join(known)}."
        )


def check_lengths(model: nn.Module, data: TaskData) -> None:
    """Refuse features that are longer than the model takes, which a GPU would report as a fault of its own.

    Raises:
        UserError: names both lengths.
    """
    for features in (data.train, data.evaluation):
        check_rows([model], features)


def public_name(name: str) -> str:
    """An id of the Hub as it is, of a path the last part."""
    path = Path(name)
    return path.name if path.exists() or path.is_absolute() else name


def begin(
    args: FineTuningArguments, task: Task, data: TaskData, facts: dict[str, Any]
) -> RunRecord:
    """The record of a run before its training.

    The card is made of it once, so that a fact that no card can hold is refused before the training and not after it.

    Args:
        args: of the training.
        task: the task.
        data: its data.
        facts: fields of the record that the command and the models decide.

    Raises:
        UserError: a fact cannot be recorded.
    """
    known = RunRecord(
        version=VERSION,
        task=task.name,
        metrics=dict(task.metrics_of(data)),
        problem_type=task.problem_type,
        datasets=data.datasets,
        environment=environment(),
    )
    path = output_folder(args) / RESULTS_NAME
    record = validated(path, RunRecord, known.as_json() | facts)
    try:
        model_card(record, args.output_dir, page=task.page)
    except ValueError as error:
        raise UserError(f"the card of {args.output_dir} cannot be written: {error}.") from error
    return record


def train(trainer: HubTrainer, record: RunRecord) -> RunRecord:
    """Train and save the weights, before anything else can fail.

    Args:
        trainer: of the model.
        record: what `begin` returned.

    Returns:
        The record with the facts that every training knows.
    """
    if trainer.is_world_process_zero():
        folder = output_folder(trainer.args)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / UNFINISHED_NAME, {"note": UNFINISHED} | record.as_json())
            if isinstance(trainer.args, FineTuningArguments) and trainer.args.overwrite_output_dir:
                remove_results(folder)
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    with saving(trainer):
        trainer.save_model(_internal_call=True)  # pushed later, with its record
    known = trainer.known_record()
    seconds = trainer.train_seconds
    return record.model_copy(
        update={
            "train_seconds": round(seconds, 1) if seconds is not None else None,
            "train_loss": trainer.train_loss,
            "precision": trainer.precision,
            "steps": trainer.state.global_step,
            "method": known.method,
            "layer_pairs": known.layer_pairs,
            "objective": known.objective,
            "more_teachers": known.more_teachers,
        }
    )


def saving(trainer: HubTrainer) -> AbstractContextManager[None]:
    """Turn a full disk into one sentence while the outcome of a training is written."""
    return writing(output_folder(trainer.args), "Checkpoints in it are as they were.")


def write_run(
    folder: Path,
    task: Task,
    data: TaskData,
    record: RunRecord,
    *,
    history: Sequence[dict[str, Any]],
    answers: Answers,
    teacher_answers: Answers | None = None,
    similarity: dict[str, Any] | None = None,
) -> None:
    """Write answers, record, analysis, card and report into the folder of a run.

    results.json says that the run is finished. It comes as soon as all that a later step reads is there: the weights,
    the answers and the log. The rest is for people. Where a part of it cannot be written, a warning says so.
    """
    shown: dict[str, Any] = {}
    with optional("the analysis of the answers"):
        shown["breakdown"] = {"student": task.breakdown(answers, data)}
        if teacher_answers is not None:
            shown["breakdown"]["teacher"] = task.breakdown(teacher_answers, data)
            shown["disagreements"] = task.disagreements(answers, teacher_answers, data)
    write_analysis(
        folder,
        history=history,
        predictions=answers,
        teacher_predictions=teacher_answers,
        similarity=similarity,
        **shown,
    )
    record.write(folder)
    (folder / UNFINISHED_NAME).unlink(missing_ok=True)
    write_card(folder, record, task)
    with optional(f"{folder / REPORT_NAME}"):
        write_report(folder, task.page)


def write_decoding(folder: Path, record: RunRecord) -> None:
    """Write the settings that `Task.calibrate` found for a saved model into its ``config.json``, where loaders look."""
    path = folder / CONFIG_NAME
    if record.decoding is None or not path.is_file():
        return
    write_json(path, read_json(path) | record.decoding)


def write_card(folder: Path, record: RunRecord, task: Task) -> None:
    """Write the card of a run, unless somebody has edited it while the run went on.

    Where that fails, a warning says so, and the card of an earlier run does not stay.
    """
    path = folder / CARD_NAME
    with optional(f"{path} (itrd-nlp push-to-hub makes one from {RESULTS_NAME})"):
        if path.is_file():
            if not is_generated(read_text(path)):
                return
            path.unlink()
        write_text(path, str(model_card(record, folder, page=task.page)))


@contextmanager
def optional(what: str) -> Iterator[None]:
    """Turn the failure of what a run can do without into a warning: hours of training must not be lost to it.

    Args:
        what: the subject of the warning.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        logger.warning("%s is missing: %s.", what, reason)
        logger.debug("", exc_info=True)


def show(record: RunRecord, own: str, title: str, task: Task, folder: str) -> None:
    """Print a table with the model of a run and its teacher, and the commands that come next.

    Args:
        record: of the run.
        own: how the model is called, ``teacher`` or ``student``.
        title: above the table.
        task: the task.
        folder: of the run.
    """
    rows: list[ModelRecord] = []
    teacher = record.teacher
    if teacher is not None:
        rows.append(teacher.model_copy(update={"name": "teacher"}))
    rows.append(record.model_copy(update={"name": own}))
    print_summary(rows, title, record.metrics, example=task.page.one)
    if teacher is not None and teacher.ms_per_question and record.ms_per_question:
        times = teacher.ms_per_question / record.ms_per_question
        print(f"The student is {times:.2f} times as fast as its teacher at batch size 1.")
    shown = shlex.quote(folder)
    print(
        f"Report:    {Path(folder) / REPORT_NAME}\n"
        + "".join(
            f"{name + ':':<11}{command}\n" for name, command in next_commands(task, folder).items()
        )
        + f"Push:      itrd-nlp push-to-hub --model {shown} --repo_id USER/NAME --dry_run"
    )


def shown_if_finished(
    args: FineTuningArguments, arguments: dict[str, Any], own: str, task: Task
) -> RunRecord | None:
    """Show the finished run in output_dir, and push it where ``push_to_hub`` asks for it.

    Args:
        args: of the training.
        arguments: see `finished_run`.
        own: how the model is called, ``teacher`` or ``student``.
        task: the task.

    Returns:
        The record of the finished run, None if there is none, or if it is to be made anew.

    Raises:
        UserError: see `finished_run` and `push_finished`.
    """
    finished = finished_run(args, arguments)
    if finished is not None:
        folder = str(output_folder(args))
        if args.process_index == 0:
            show(finished, own, f"Finished already: {folder}", task, folder)
        push_finished(args, task)
    return finished


def push_finished(args: FineTuningArguments, task: Task) -> None:
    """Push the model that an earlier, finished run has left in ``output_dir``, where ``push_to_hub`` asks for it.

    Raises:
        UserError: no ``hub_model_id`` is given, or see `push`.
    """
    if not args.push_to_hub or args.process_index > 0:
        return
    if args.hub_model_id is None:
        raise UserError(
            f"push_to_hub is true and {args.output_dir} is finished, but hub_model_id is not set; give it as USER/NAME."
        )
    record = RunRecord.read(output_folder(args))
    assert record is not None
    files = check_model(
        output_folder(args),
        head=task.head,
        page=task.page,
        record=fill_in_objective(record),
        repo_id=args.hub_model_id,
    )
    push_model(
        files,
        args.hub_model_id,
        private=bool(args.hub_private_repo),
        revision=args.hub_revision,
        token=args.hub_token,
    )
