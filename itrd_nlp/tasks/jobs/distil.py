"""Distil a teacher into a student: prepare, train, publish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments, TextBrewerTrainer
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import (
    check_same_vocabulary,
    fit_tokenizer,
    label_names,
    load_model,
    load_model_and_tokenizer,
    load_tokenizer,
)
from itrd_nlp.models.modes import move_to
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.placing import put_on
from itrd_nlp.models.students import build_student
from itrd_nlp.publish.licenses import license_of
from itrd_nlp.tasks.jobs.arguments import StudentArguments
from itrd_nlp.tasks.jobs.budget import within_budget
from itrd_nlp.tasks.jobs.evaluate import evaluate_trainer
from itrd_nlp.tasks.jobs.run_folder import check_run_folder
from itrd_nlp.tasks.jobs.runs import (
    begin,
    check_best_metric,
    check_lengths,
    optional,
    saving,
    show,
    shown_if_finished,
    train,
    write_decoding,
    write_run,
)
from itrd_nlp.tasks.jobs.similarity import layers_alike
from itrd_nlp.tasks.jobs.speed import milliseconds_per_question
from itrd_nlp.tasks.jobs.teacher_scores import judge_teacher
from itrd_nlp.tasks.task import Answers, Task, TaskData
from itrd_nlp.training.arguments import output_folder
from itrd_nlp.training.identity import weights_digest
from itrd_nlp.training.output_dir import check_output_dir
from itrd_nlp.training.record import ModelRecord, RunRecord
from itrd_nlp.training.roles import chosen_arguments, objective_of

DistillationArguments = ITRDTrainingArguments | TextBrewerArguments

# The trainer of each kind of arguments.
TRAINERS: dict[type, type[ITRDTrainer] | type[TextBrewerTrainer]] = {
    ITRDTrainingArguments: ITRDTrainer,
    TextBrewerArguments: TextBrewerTrainer,
}


@dataclass
class _Prepared:
    """All that a distillation needs, loaded and checked."""

    trainer: ITRDTrainer | TextBrewerTrainer
    teacher: PreTrainedModel
    data: TaskData
    teacher_record: ModelRecord
    teacher_answers: Answers
    similarity_before: dict[str, Any] | None


def distil(
    task: Task,
    model_args: StudentArguments,
    loading: LoadingArguments,
    args: DistillationArguments,
    started: dict[str, Any] | None = None,
) -> RunRecord:
    """Distil a teacher into a student on a task and evaluate both.

    The results.json in the teacher's folder is believed where it is about the same weights and the same examples. Else
    the teacher is evaluated first.

    Args:
        task: the task.
        model_args: teacher and student.
        loading: how models are loaded.
        args: training and objective; those of TextBrewer let its distiller train.
        started: ``command`` and ``config`` for the record.

    Returns:
        The record of the run. Where output_dir holds a finished run of the same arguments, that one's.

    Raises:
        UserError: something cannot be used; output_dir is in use, holds another run, or something that would be lost.
    """
    task.check_distillation(args)
    model_args.check_budget()
    if model_args.more_teachers and not task.joins_teachers:
        raise UserError(
            f"more_teachers are given, but the task {task.name} learns from one teacher: predictions of several cannot "
            "be joined."
        )
    check_best_metric(args, task, task.metrics_of(None))
    models = [model_args.teacher, model_args.student, *model_args.more_teachers]
    check_run_folder(args, [*models, *task.files])
    arguments = chosen_arguments((model_args, loading, task.args, args))
    finished = shown_if_finished(args, arguments, "student", task)
    if finished is not None:
        return finished
    check_output_dir(args)
    model_args, candidates = within_budget(task, model_args, loading, args)
    prepared = _prepare(task, model_args, loading, args)
    licence = license_of(model_args.student or model_args.teacher, loading.model_revision)
    facts = {"license": licence, "arguments": arguments, "candidates": candidates}
    record = begin(args, task, prepared.data, facts | (started or {}))
    trainer = prepared.trainer
    record = train(trainer, record)
    scores = evaluate_trainer(task, trainer, trainer.published_model, prepared.data, trained=True)
    record = record.changed(**scores.as_json())
    record.teacher = prepared.teacher_record
    record.objective |= objective_of(task.args)
    _publish(task, prepared, record, loading)
    if args.push_to_hub:
        trainer.push_to_hub()
    return record


def _prepare(
    task: Task, model_args: StudentArguments, loading: LoadingArguments, args: DistillationArguments
) -> _Prepared:
    """Load the models and the data, refuse what does not fit, judge the teacher."""
    head = task.head
    set_seed(args.seed)  # before a student of random weights is drawn
    teacher, tokenizer = load_model_and_tokenizer(
        model_args.teacher, role="teacher", args=loading, head=head
    )
    student = make_student(model_args, loading, teacher, tokenizer, head)
    more = load_more_teachers(model_args, loading, teacher, tokenizer, head)
    trainer_class: Any = TRAINERS[type(args)]  # the one whose arguments these are
    trainer_class.check_models(student, teacher, args, more, tokenizer)
    task.judged_beside(teacher, student)
    with args.main_process_first(desc="tokenising"):
        data = task.load(tokenizer, teacher)
    check_best_metric(args, task, task.metrics_of(data))
    for model in (teacher, student, *more):
        check_lengths(model, data)
    if args.process_index == 0:
        task.warn(data)
    teacher_record, answers = judge_teacher(task, model_args.teacher, teacher, data, args)
    before = None
    if args.process_index == 0:
        before = layers_alike(student, teacher, data, args.device, when="before")
    trainer = trainer_class(
        model=student,
        teacher=teacher,
        args=args,
        more_teachers=more,
        page=task.page,
        **data.distiller_kwargs(),
    )
    return _Prepared(trainer, teacher, data, teacher_record, answers, before)


def _publish(task: Task, prepared: _Prepared, record: RunRecord, loading: LoadingArguments) -> None:
    """Measure the speed of the student, and write answers, record, analysis, card and report."""
    trainer, data, teacher = prepared.trainer, prepared.data, prepared.teacher
    args, answers = trainer.args, data.judge.predictions
    if not trainer.is_world_process_zero():
        return
    folder = output_folder(args)
    with saving(trainer):
        write_decoding(folder, record)
    alike = {"before": prepared.similarity_before}
    with optional("the speed of the models"):
        # The saved model, not the one in the trainer, which may be wrapped or sharded.
        saved = load_model(str(folder), role="model", args=loading, head=task.head)
        record.weights = weights_digest(saved)
        move_to(saved, args.device)
        put_on(teacher, args.device, saved.dtype)
        speed = milliseconds_per_question(
            {"teacher": teacher, "student": saved}, data.evaluation, data.collator
        )
        record.ms_per_question = speed["student"]
        prepared.teacher_record.ms_per_question = speed["teacher"]
        alike["after"] = layers_alike(saved, teacher, data, args.device, when="after")
    with saving(trainer):
        write_run(
            folder,
            task,
            data,
            record,
            history=trainer.state.log_history,
            answers=answers,
            teacher_answers=prepared.teacher_answers,
            similarity={when: found for when, found in alike.items() if found} or None,
        )
    show(record, "student", f"Distilled: {folder}", task, str(folder))


def make_student(
    model_args: StudentArguments,
    loading: LoadingArguments,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    head: type,
) -> PreTrainedModel:
    """The student that the arguments ask for: of layers of the teacher, or from a checkpoint of its own.

    Args:
        model_args: which student.
        loading: how it is loaded.
        teacher: the teacher, whose labels a new head gets.
        tokenizer: the teacher's, which the student's must agree with.
        head: the class of transformers that loads it.

    Raises:
        UserError: it cannot be made, or reads other token ids than the teacher.
    """
    dropout = model_args.dropout
    if model_args.student is None:
        init = model_args.student_init
        return build_student(teacher, model_args.num_layers, init=init, dropout=dropout)
    student, own = load_model_and_tokenizer(
        model_args.student,
        role="student",
        args=loading,
        dropout=dropout,
        head=head,
        labels=label_names(teacher.config),
        problem_type=teacher.config.problem_type,
    )
    check_same_vocabulary(own, tokenizer)
    return student


def load_more_teachers(
    model_args: StudentArguments,
    loading: LoadingArguments,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    head: type,
) -> list[PreTrainedModel]:
    """The further teachers that the arguments name.

    Raises:
        UserError: one cannot be loaded, reads other token ids than the first teacher, or has other labels.
    """
    others = []
    for name in model_args.more_teachers:
        own = load_tokenizer(name, loading)
        check_same_vocabulary(own, tokenizer, role=f"teacher {name}")
        other = load_model(name, role="teacher", args=loading, head=head)
        fit_tokenizer(other, own, name)
        if other.config.id2label != teacher.config.id2label:
            raise UserError(
                f"teacher {name} has the labels {label_names(other.config)}, but the first teacher "
                f"{label_names(teacher.config)}; they must be the same in the same order."
            )
        others.append(other)
    return others
