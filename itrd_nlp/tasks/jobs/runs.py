"""The folder of a run: whether it is finished, and what is written and pushed when it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from itrd_nlp.distillation.arguments import with_objective
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_text, writing
from itrd_nlp.publish.hub import check_model, push_model
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.publish.model_card import CARD_NAME, license_of, model_card
from itrd_nlp.publish.report import write_report
from itrd_nlp.publish.report.analysis import write_analysis
from itrd_nlp.tasks.task import Answers, Task, TaskData
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import VERSION, ModelRecord, RunRecord
from itrd_nlp.training.results import environment, print_summary


def finished_run(output_dir: str, arguments: dict[str, Any]) -> RunRecord | None:
    """The record of the run in output_dir if it is finished, None if there is none.

    Raises:
        UserError: output_dir is a file, or holds a finished run of other arguments, which must not be overwritten.
    """
    if Path(output_dir).is_file():
        raise UserError(f"output_dir {output_dir} is a file, but must be a folder.")
    record = RunRecord.read(output_dir)
    if record is None:
        return None
    before = record.arguments
    for name in sorted(arguments.keys() | before.keys()):
        if arguments.get(name) != before.get(name):
            raise UserError(
                f"output_dir {output_dir} holds a finished run with {name} = {before.get(name)!r}, not "
                f"{arguments.get(name)!r}; remove it or name another output_dir."
            )
    return record


def public_name(name: str) -> str:
    """An id of the Hub as it is, of a path the last part."""
    path = Path(name)
    return path.name if path.exists() or path.is_absolute() else name


def recorded_license(name: str) -> str | None:
    """The license in the card of a model's folder, which holds for models that are made from it, too."""
    return license_of(name)


def train(trainer: HubTrainer, task: Task, data: TaskData) -> RunRecord:
    """Train, and begin the record of the run with the facts that every training knows."""
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    known = trainer.known_record()
    seconds = trainer.train_seconds
    return RunRecord(
        version=VERSION,
        task=task.name,
        metrics=dict(task.metrics),
        datasets=data.datasets,
        train_seconds=round(seconds, 1) if seconds is not None else None,
        train_loss=trainer.train_loss,
        precision=trainer.precision,
        steps=trainer.state.global_step,
        environment=environment(),
        method=known.method,
        layer_pairs=known.layer_pairs,
        objective=known.objective,
        more_teachers=known.more_teachers,
    )


def saving(trainer: HubTrainer) -> AbstractContextManager[None]:
    """Turn a full disk into one sentence while the outcome of a training is written."""
    return writing(Path(trainer.args.output_dir), "Checkpoints in it are as they were.")


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
    """Write analysis, card, record and report into the folder of a run.

    results.json says that the run is finished, so it comes when all but the report, which reads it, is there.
    """
    groups = {"student": task.breakdown(answers, data)}
    if teacher_answers is not None:
        groups["teacher"] = task.breakdown(teacher_answers, data)
    write_analysis(
        folder,
        history=history,
        predictions=answers,
        teacher_predictions=teacher_answers,
        similarity=similarity,
        breakdown=groups,
        disagreements=None
        if teacher_answers is None
        else task.disagreements(answers, teacher_answers, data),
    )
    write_text(folder / CARD_NAME, str(model_card(record, folder, page=task.page)))
    record.write(folder)
    write_report(folder, task.page)


def show(record: RunRecord, own: str, title: str) -> None:
    """Print a table with the model of a run and its teacher.

    Args:
        record: of the run.
        own: how the model is called, ``teacher`` or ``student``.
        title: above the table.
    """
    rows: list[ModelRecord] = []
    if record.teacher is not None:
        rows.append(record.teacher.model_copy(update={"name": "teacher"}))
    rows.append(record.model_copy(update={"name": own}))
    print_summary(rows, title, record.metrics)


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
    record = RunRecord.read(args.output_dir)
    assert record is not None
    files = check_model(
        args.output_dir,
        head=task.head,
        page=task.page,
        record=with_objective(record),
        repo_id=args.hub_model_id,
    )
    push_model(
        files,
        args.hub_model_id,
        private=bool(args.hub_private_repo),
        revision=args.hub_revision,
        token=args.hub_token,
    )
