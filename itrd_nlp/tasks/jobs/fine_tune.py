"""Fine-tune an encoder: a teacher, for example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import set_seed

from itrd_nlp.models.loading import LoadingArguments, load_model, load_tokenizer
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.tasks.jobs.arguments import TeacherArguments
from itrd_nlp.tasks.jobs.evaluate import scored
from itrd_nlp.tasks.jobs.runs import (
    finished_run,
    public_name,
    push_finished,
    recorded_license,
    saving,
    show,
    train,
    write_run,
)
from itrd_nlp.tasks.task import Task
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.output_dir import check_output_dir
from itrd_nlp.training.record import RunRecord
from itrd_nlp.training.roles import chosen_arguments


def fine_tune(
    task: Task,
    model_args: TeacherArguments,
    loading: LoadingArguments,
    args: FineTuningArguments,
    started: dict[str, Any] | None = None,
) -> RunRecord:
    """Fine-tune an encoder on a task and evaluate it.

    Args:
        task: the task.
        model_args: which encoder.
        loading: how it is loaded.
        args: the training.
        started: ``command`` and ``config`` for the record.

    Returns:
        The record of the run. Where output_dir holds a finished run of the same arguments, that one's.

    Raises:
        UserError: something cannot be used; output_dir is in use, or holds another run, finished or not.
    """
    task.check_fine_tuning()
    arguments = chosen_arguments((model_args, loading, task.args, args))
    finished = finished_run(args.output_dir, arguments)
    if finished is not None:
        show(finished, "teacher", f"Finished already: {args.output_dir}")
        push_finished(args, task)
        return finished
    check_output_dir(args)
    name = model_args.model_name_or_path
    head, labels = task.head, task.labels
    set_seed(args.seed)  # before the weights of the head are drawn
    model = load_model(
        name, role="encoder", args=loading, dropout=model_args.dropout, head=head, labels=labels
    )
    tokenizer = load_tokenizer(name, loading)
    with args.main_process_first(desc="tokenising"):
        data = task.load(tokenizer, model.config)
    if args.process_index == 0:
        task.warn(data)
    trainer = HubTrainer(model=model, args=args, page=task.page, **data.of_trainer())
    record = train(trainer, task, data)
    record = record.changed(
        **scored(task, trainer, model, data).as_json()
        | {
            "base_model": public_name(name),
            "license": recorded_license(name),
            "arguments": arguments,
            "version": record.version,
            **(started or {}),
        }
    )
    with saving(trainer):
        trainer.save_model(_internal_call=True)  # pushed below, with its record
        if trainer.is_world_process_zero():
            write_run(
                Path(args.output_dir),
                task,
                data,
                record,
                history=trainer.state.log_history,
                answers=data.judge.predictions,
            )
            show(record, "teacher", f"Fine-tuned: {args.output_dir}")
    if args.push_to_hub:
        trainer.push_to_hub()
    return record
