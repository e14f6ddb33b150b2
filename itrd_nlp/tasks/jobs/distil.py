"""Distil a teacher into a student: prepare, train, publish."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.teacher import cache_folder
from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments, TextBrewerTrainer
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json, writing
from itrd_nlp.models.loading import (
    LoadingArguments,
    check_same_vocabulary,
    load_model,
    load_tokenizer,
)
from itrd_nlp.models.similarity import layer_similarity
from itrd_nlp.models.students import build_student
from itrd_nlp.publish.report.data import ANALYSIS_NAME, PREDICTIONS_NAME
from itrd_nlp.tasks.jobs import evaluate as evaluation
from itrd_nlp.tasks.jobs.arguments import StudentArguments
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
from itrd_nlp.tasks.jobs.speed import milliseconds_per_question
from itrd_nlp.tasks.task import Answers, Task, TaskData, read_answers
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.output_dir import check_output_dir
from itrd_nlp.training.record import ModelRecord, RunRecord
from itrd_nlp.training.roles import chosen_arguments

DistillationArguments = ITRDTrainingArguments | TextBrewerArguments

# The trainer of each kind of arguments.
TRAINERS: dict[type, type[ITRDTrainer] | type[TextBrewerTrainer]] = {
    ITRDTrainingArguments: ITRDTrainer,
    TextBrewerArguments: TextBrewerTrainer,
}
SIMILARITY_WINDOWS = 64


@dataclass
class _Prepared:
    """All that a distillation needs, loaded and checked."""

    trainer: ITRDTrainer | TextBrewerTrainer
    student: PreTrainedModel
    teacher: PreTrainedModel
    data: TaskData
    taught: ModelRecord
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

    The teacher's own results.json is believed where it was measured on the same examples; else the teacher is
    evaluated first.

    Args:
        task: the task.
        model_args: teacher and student.
        loading: how models are loaded.
        args: training and objective; those of TextBrewer let its distiller train.
        started: ``command`` and ``config`` for the record.

    Returns:
        The record of the run. Where output_dir holds a finished run of the same arguments, that one's.

    Raises:
        UserError: something cannot be used; output_dir is in use, or holds another run, finished or not.
    """
    task.check_distillation(args)
    arguments = chosen_arguments((model_args, loading, task.args, args))
    finished = finished_run(args.output_dir, arguments)
    if finished is not None:
        show(finished, "student", f"Finished already: {args.output_dir}")
        push_finished(args, task)
        return finished
    check_output_dir(args)
    prepared = _prepare(task, model_args, loading, args)
    record = train(prepared.trainer, task, prepared.data)
    scores = evaluation.scored(task, prepared.trainer, prepared.student, prepared.data)
    record = record.changed(
        **scores.as_json()
        | {
            "license": recorded_license(model_args.student or model_args.teacher),
            "arguments": arguments,
            "version": record.version,
            **(started or {}),
        }
    )
    record.teacher = prepared.taught
    _publish(task, prepared, record, loading)
    if args.push_to_hub:
        prepared.trainer.push_to_hub()
    return record


def _prepare(
    task: Task, model_args: StudentArguments, loading: LoadingArguments, args: DistillationArguments
) -> _Prepared:
    """Load the models and the data, refuse what does not fit, judge the teacher."""
    head = task.head
    set_seed(args.seed)  # before a student of random weights is drawn
    teacher = load_model(model_args.teacher, role="teacher", args=loading, head=head)
    tokenizer = load_tokenizer(model_args.teacher, loading)
    student = make_student(model_args, loading, teacher, tokenizer, head)
    more = load_more_teachers(model_args, loading, teacher, tokenizer, head)
    trainer_class = TRAINERS[type(args)]
    trainer_class.check_models(student, teacher, args, more)
    with args.main_process_first(desc="tokenising"):
        data = task.load(tokenizer, teacher.config)
    if args.process_index == 0:
        task.warn(data)
    taught, answers = _judge_teacher(task, model_args.teacher, teacher, data, args)
    before = None
    if args.process_index == 0:
        for model in (student, teacher):  # which may be there already, to be judged
            model.to(args.device)
        before = _similarity(student, teacher, data)
    trainer = trainer_class(
        model=student,
        teacher=teacher,
        args=args,
        more_teachers=more,
        page=task.page,
        **data.of_trainer(),
    )
    return _Prepared(trainer, student, teacher, data, taught, answers, before)


def _publish(task: Task, prepared: _Prepared, record: RunRecord, loading: LoadingArguments) -> None:
    """Save the student, measure its speed, and write analysis, card, record and report."""
    trainer, data, teacher = prepared.trainer, prepared.data, prepared.teacher
    args, answers = trainer.args, data.judge.predictions
    with saving(trainer):
        trainer.save_model(_internal_call=True)  # pushed later, with its record
        if not trainer.is_world_process_zero():
            return
        folder = Path(args.output_dir)
        # The saved model, not the one in the trainer, which may be wrapped or sharded.
        saved = load_model(str(folder), role="model", args=loading, head=task.head).to(args.device)
        teacher.to(device=args.device, dtype=saved.dtype)
        speed = milliseconds_per_question(
            {"teacher": teacher, "student": saved}, data.evaluation, data.collator
        )
        record.ms_per_question = speed["student"]
        prepared.taught.ms_per_question = speed["teacher"]
        write_run(
            folder,
            task,
            data,
            record,
            history=trainer.state.log_history,
            answers=answers,
            teacher_answers=prepared.teacher_answers,
            similarity={
                "before": prepared.similarity_before,
                "after": _similarity(saved, teacher, data),
            },
        )
        show(record, "student", f"Distilled: {args.output_dir}")


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
    student = load_model(
        model_args.student,
        role="student",
        args=loading,
        dropout=dropout,
        head=head,
        labels=_labels(teacher),
    )
    check_same_vocabulary(load_tokenizer(model_args.student, loading), tokenizer)
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
        check_same_vocabulary(load_tokenizer(name, loading), tokenizer, role=f"teacher {name}")
        other = load_model(name, role="teacher", args=loading, head=head)
        if other.config.id2label != teacher.config.id2label:
            raise UserError(
                f"teacher {name} has the labels {list(other.config.id2label.values())}, but the first teacher "
                f"{_labels(teacher)}; they must be the same in the same order."
            )
        others.append(other)
    return others


def _labels(model: PreTrainedModel) -> list[str]:
    return [model.config.id2label[i] for i in range(model.config.num_labels)]


# ---- the teacher's scores ----


def _judge_teacher(
    task: Task, name: str, teacher: PreTrainedModel, data: TaskData, args: FineTuningArguments
) -> tuple[ModelRecord, Answers]:
    """The record of the teacher, and its answers; both from its own folder if that is about these examples."""
    known = RunRecord.read(name) or RunRecord()
    path = Path(name) / ANALYSIS_NAME / PREDICTIONS_NAME
    if known.signature == data.signature and path.is_file():
        answers = read_answers(path)
    else:
        judged, answers = _kept_judgement(task, teacher, data, args)
        known = known.changed(**judged.as_json())
    kept = known.model_dump(include=set(ModelRecord.model_fields))
    unknown = dict.fromkeys(("eval_seconds", "license", "ms_per_question"))
    return ModelRecord(**kept | unknown | {"name": public_name(name)}), answers


def _kept_judgement(
    task: Task, teacher: PreTrainedModel, data: TaskData, args: FineTuningArguments
) -> tuple[RunRecord, Answers]:
    """Scores and answers of the teacher, kept in the teacher cache for the other runs that share it.

    Several processes evaluate a teacher together, so none may find what another does not: they leave the cache aside.
    """
    kept = None
    cached = isinstance(args, ITRDTrainingArguments) and args.teacher_cache != "off"
    if cached and args.world_size == 1:
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
        kept = cache_folder(teacher, args) / f"answers-{data.signature}-{precision}"
        judged = RunRecord.read(kept)
        if judged is not None:
            return judged, read_answers(kept / PREDICTIONS_NAME)
    judged = evaluation.judge(task, teacher, data, args)
    answers = dict(data.judge.predictions)
    if kept is not None:
        with writing(kept):
            kept.mkdir(parents=True, exist_ok=True)
            write_json(kept / PREDICTIONS_NAME, answers)
            judged.write(kept)  # last: it says that both are there
    return judged, answers


def _similarity(
    student: PreTrainedModel, teacher: PreTrainedModel, data: TaskData
) -> dict[str, Any]:
    """How alike the layers of both are, over features of all lengths of the evaluation."""
    features = data.evaluation
    every = max(1, len(features) // SIMILARITY_WINDOWS)
    chosen = features.select(range(0, len(features), every)[:SIMILARITY_WINDOWS])
    columns = ("input_ids", "token_type_ids")
    rows = chosen.select_columns([c for c in columns if c in chosen.column_names]).to_list()
    batches = [data.collator(rows[i : i + 16]) for i in range(0, len(rows), 16)]
    return layer_similarity(student, teacher, batches)
