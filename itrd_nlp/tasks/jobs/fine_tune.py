"""Fine-tune an encoder: a teacher, for example."""

from __future__ import annotations

from typing import Any

from transformers import set_seed

from itrd_nlp.models.loading import load_model, load_model_and_tokenizer
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.tokenizing import with_words_apart
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.publish.licenses import license_of
from itrd_nlp.tasks.jobs.arguments import TeacherArguments
from itrd_nlp.tasks.jobs.evaluate import evaluate_trainer
from itrd_nlp.tasks.jobs.run_folder import check_run_folder
from itrd_nlp.tasks.jobs.runs import (
    begin,
    check_best_metric,
    check_lengths,
    optional,
    public_name,
    saving,
    show,
    shown_if_finished,
    train,
    write_decoding,
    write_run,
)
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.training.arguments import FineTuningArguments, output_folder
from itrd_nlp.training.identity import weights_digest
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
        UserError: something cannot be used; output_dir is in use, holds another run, or something that would be lost.
    """
    task.check_fine_tuning()
    check_best_metric(args, task, task.metrics_of(None))
    check_run_folder(args, [model_args.model_name_or_path, *task.files])
    arguments = chosen_arguments((model_args, loading, task.args, args))
    finished = shown_if_finished(args, arguments, "teacher", task)
    if finished is not None:
        return finished
    check_output_dir(args)
    trainer, data = _prepare(task, model_args, loading, args)
    name = model_args.model_name_or_path
    licence = license_of(name, loading.model_revision)
    facts = {"base_model": public_name(name), "license": licence, "arguments": arguments}
    record = begin(args, task, data, facts | (started or {}))
    record = train(trainer, record)
    scores = evaluate_trainer(task, trainer, trainer.published_model, data, trained=True)
    record = record.changed(**scores.as_json())
    _publish(task, trainer, data, record, loading)
    if args.push_to_hub:
        trainer.push_to_hub()
    return record


def _prepare(
    task: Task, model_args: TeacherArguments, loading: LoadingArguments, args: FineTuningArguments
) -> tuple[HubTrainer, TaskData]:
    """Load the encoder and the data."""
    head, labels = task.head, task.labels
    set_seed(args.seed)  # before the weights of the head are drawn
    model, tokenizer = load_model_and_tokenizer(
        model_args.model_name_or_path,
        role="encoder",
        args=loading,
        dropout=model_args.dropout,
        head=head,
        labels=labels,
        problem_type=task.problem_type,
    )
    if task.reads_words:
        tokenizer = with_words_apart(tokenizer, model_args.model_name_or_path, loading)
    with args.main_process_first(desc="tokenising"):
        data = task.load(tokenizer, model)
    check_best_metric(args, task, task.metrics_of(data))
    check_lengths(model, data)
    if args.process_index == 0:
        task.warn(data)
    return HubTrainer(model=model, args=args, page=task.page, **data.trainer_kwargs()), data


def _publish(
    task: Task, trainer: HubTrainer, data: TaskData, record: RunRecord, loading: LoadingArguments
) -> None:
    """Write answers, record, analysis, card and report."""
    if not trainer.is_world_process_zero():
        return
    folder = output_folder(trainer.args)
    with saving(trainer):
        write_decoding(folder, record)
    with optional("the digest of the weights"):
        # The saved model, not the one in the trainer, which may be wrapped or sharded.
        saved = load_model(str(folder), role="model", args=loading, head=task.head)
        record.weights = weights_digest(saved)
    with saving(trainer):
        write_run(
            folder,
            task,
            data,
            record,
            history=trainer.state.log_history,
            answers=data.judge.predictions,
        )
    show(record, "teacher", f"Fine-tuned: {folder}", task, str(folder))
