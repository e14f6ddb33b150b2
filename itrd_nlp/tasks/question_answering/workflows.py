"""Whole jobs on SQuAD: fine-tune a teacher, distil a student, evaluate a model. The scripts call these."""

from __future__ import annotations

import logging
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, set_seed

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.teacher import cache_folder
from itrd_nlp.distillation.textbrewer_trainer import (
    TextBrewerArguments,
    TextBrewerTrainer,
    textbrewer_pairs,
)
from itrd_nlp.distillation.trainer import ITRDTrainer, resolve_pairs
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json, write_text, writing
from itrd_nlp.models.loading import (
    LoadingArguments,
    check_same_vocabulary,
    load_model,
    load_tokenizer,
)
from itrd_nlp.models.similarity import layer_similarity
from itrd_nlp.models.students import build_student
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.publish.model_card import CARD_NAME, model_card
from itrd_nlp.publish.report import write_report
from itrd_nlp.publish.report.data import ANALYSIS_NAME
from itrd_nlp.tasks.question_answering.analysis import PREDICTIONS_NAME, save_analysis
from itrd_nlp.tasks.question_answering.data import (
    DataArguments,
    EvaluationData,
    TrainingData,
    collator,
    data_record,
    load_evaluation_data,
    load_training_data,
)
from itrd_nlp.tasks.question_answering.evaluation import load_predictions
from itrd_nlp.tasks.question_answering.features import QuestionAnsweringCollator
from itrd_nlp.tasks.question_answering.speed import milliseconds_per_question
from itrd_nlp.tasks.runs import (
    chosen_arguments,
    finished_run,
    license_record,
    public_name,
    push_finished,
    summary_row,
    train_and_evaluate,
)
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.results import RESULTS_NAME, print_summary, read_results, size
from itrd_nlp.training.trainer import BaseTrainer

logger = logging.getLogger(__name__)

SIMILARITY_WINDOWS = 64
TEACHER_KEYS = (
    "base_model",
    "exact_match",
    "f1",
    "questions",
    "signature",
    "layers",
    "parameters",
    "megabytes_fp32",
    "train_seconds",
)


@dataclass
class TeacherArguments:
    """The encoder to fine-tune."""

    model_name_or_path: str = field(metadata={"help": "Folder or model id of the encoder."})
    dropout: float | None = field(
        default=None,
        metadata={"help": "Dropout of hidden states and attention; default: the configuration's."},
    )


@dataclass
class StudentArguments:
    """Teacher and student."""

    teacher: str = field(metadata={"help": "Folder or model id of the fine-tuned teacher."})
    student: str | None = field(
        default=None,
        metadata={
            "help": "Folder or model id to start the student from, in place of layers of the teacher."
        },
    )
    more_teachers: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Further teachers: logit KD learns from the mean of all predictions. Hidden states are those of "
            "teacher."
        },
    )
    num_layers: int = field(
        default=3, metadata={"help": "Layers of the student, where it is made from the teacher."}
    )
    student_init: list[str] = field(
        default_factory=lambda: ["first"],
        metadata={
            "help": "Teacher layers that the student starts from: first, uniform (3 of 12: 4 8 12), last, random "
            "(fresh weights), or the layers themselves."
        },
    )
    dropout: float | None = field(
        default=None,
        metadata={"help": "Dropout of the student; default: the configuration's."},
    )


def fine_tune(
    model_args: TeacherArguments,
    loading: LoadingArguments,
    data_args: DataArguments,
    args: FineTuningArguments,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune an encoder on SQuAD and evaluate it.

    Args:
        model_args: which encoder.
        loading: how it is loaded.
        data_args: the questions.
        args: the training.
        record: what else goes into results.json, such as the command.

    Returns:
        The content of results.json. Where output_dir holds a finished run of the same arguments, that one's.

    Raises:
        UserError: something cannot be used; output_dir holds a finished run of other arguments.
    """
    if data_args.unlabelled_file is not None:
        raise UserError(
            "unlabelled_file is set, but without a teacher only answers can be learned from."
        )
    arguments = chosen_arguments(model_args, loading, data_args, args)
    finished = finished_run(args.output_dir, arguments)
    if finished is not None:
        print_summary([summary_row("teacher", finished)], f"Finished already: {args.output_dir}")
        push_finished(args)
        return finished
    set_seed(args.seed)  # before the weights of the head are drawn
    model = load_model(
        model_args.model_name_or_path, role="encoder", args=loading, dropout=model_args.dropout
    )
    tokenizer = load_tokenizer(model_args.model_name_or_path, loading)
    data = _load_data(data_args, tokenizer, args)
    trainer = HubTrainer(model=model, args=args, **data.of_trainer())
    results = train_and_evaluate(
        trainer, lambda: _evaluate(trainer, model, data.evaluation), data.record
    )
    results |= {"base_model": public_name(model_args.model_name_or_path)}
    results |= license_record(model_args.model_name_or_path)
    results |= {"arguments": arguments, **(record or {})}
    answers = data.evaluation.metrics.predictions
    with _saving(trainer):
        trainer.save_model(_internal_call=True)  # pushed below, with its results
        if trainer.is_world_process_zero():
            folder = Path(args.output_dir)
            save_analysis(
                folder,
                history=trainer.state.log_history,
                examples=data.evaluation.examples,
                predictions=answers,
            )
            _publish(folder, results)
            print_summary([summary_row("teacher", results)], f"Fine-tuned: {args.output_dir}")
    if args.push_to_hub:
        trainer.push_to_hub()
    return results


def distil(
    model_args: StudentArguments,
    loading: LoadingArguments,
    data_args: DataArguments,
    args: ITRDTrainingArguments | TextBrewerArguments,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Distil a teacher into a student on SQuAD and evaluate both.

    The teacher's own results.json is believed where it was measured on the same questions; else the teacher is
    evaluated first.

    Args:
        model_args: teacher and student.
        loading: how models are loaded.
        data_args: the questions.
        args: training and objective; those of TextBrewer let its distiller train.
        record: what else goes into results.json, such as the command.

    Returns:
        The content of results.json. Where output_dir holds a finished run of the same arguments, that one's.

    Raises:
        UserError: something cannot be used; output_dir holds a finished run of other arguments.
    """
    if data_args.unlabelled_file is not None:
        _check_unlabelled(data_args, args)
    arguments = chosen_arguments(model_args, loading, data_args, args)
    finished = finished_run(args.output_dir, arguments)
    if finished is not None:
        rows = [summary_row("teacher", finished["teacher"]), summary_row("student", finished)]
        print_summary(rows, f"Finished already: {args.output_dir}")
        push_finished(args)
        return finished
    set_seed(args.seed)  # before a student of random weights is drawn
    teacher = load_model(model_args.teacher, role="teacher", args=loading)
    tokenizer = load_tokenizer(model_args.teacher, loading)
    student = make_student(model_args, loading, teacher, tokenizer)
    more: dict[str, Any] = {}
    # Refuse what does not fit before the work begins.
    if isinstance(args, TextBrewerArguments):
        if model_args.more_teachers:
            raise UserError(
                "more_teachers are given, but TextBrewer's distiller takes one teacher."
            )
        textbrewer_pairs(student, teacher, args)
        trainer_class: type[HubTrainer] = TextBrewerTrainer
    else:
        more["more_teachers"] = load_more_teachers(model_args, loading, tokenizer)
        resolve_pairs(student, teacher, args, **more)
        trainer_class = ITRDTrainer
    data = _load_data(data_args, tokenizer, args)
    taught, teacher_answers = _judge_teacher(model_args.teacher, teacher, data, args)
    before = None
    if args.process_index == 0:
        for model in (student, teacher):  # which may be there already, to be judged
            model.to(args.device)
        before = _similarity(student, teacher, data)
    trainer = trainer_class(model=student, teacher=teacher, args=args, **more, **data.of_trainer())
    results = train_and_evaluate(
        trainer, lambda: _evaluate(trainer, student, data.evaluation), data.record
    )
    answers = data.evaluation.metrics.predictions
    results |= {
        "teacher": taught,
        **license_record(model_args.student or model_args.teacher),
        "arguments": arguments,
        **(record or {}),
    }
    with _saving(trainer):
        trainer.save_model(_internal_call=True)  # pushed below, with its results
        if trainer.is_world_process_zero():
            folder = Path(args.output_dir)
            # What was saved, not the model in the trainer, which may be wrapped or sharded.
            saved = load_model(str(folder), role="model", args=loading).to(args.device)
            teacher.to(device=args.device, dtype=saved.dtype)
            speed = milliseconds_per_question(
                {"teacher": teacher, "student": saved}, data.evaluation.features, data.collator
            )
            results["ms_per_question"] = speed["student"]
            taught["ms_per_question"] = speed["teacher"]
            save_analysis(
                folder,
                history=trainer.state.log_history,
                examples=data.evaluation.examples,
                predictions=answers,
                teacher_predictions=teacher_answers,
                similarity={"before": before, "after": _similarity(saved, teacher, data)},
            )
            _publish(folder, results)
            rows = [summary_row("teacher", taught), summary_row("student", results)]
            print_summary(rows, f"Distilled: {args.output_dir}")
    if args.push_to_hub:
        trainer.push_to_hub()
    return results


def _check_unlabelled(
    data_args: DataArguments, args: ITRDTrainingArguments | TextBrewerArguments
) -> None:
    """Refuse an objective that cannot do with questions without answers."""
    if isinstance(args, TextBrewerArguments):
        if args.hard_label_weight > 0:
            raise UserError(
                f"hard_label_weight is {args.hard_label_weight}, but the questions of unlabelled_file have no answers; "
                "set it to 0."
            )
    elif not args.needs_teacher:
        raise UserError(
            "unlabelled_file is set, but w_kd, beta_corr and beta_mi are 0, so that nothing is learned from it."
        )
    elif data_args.train_file is None and args.w_task > 0:
        raise UserError(
            f"w_task is {args.w_task}, but train_file is not set and the questions of unlabelled_file have no answers; "
            "set w_task to 0 or name a train_file."
        )


def evaluate_model(
    model: PreTrainedModel,
    evaluation: EvaluationData,
    tokenizer: PreTrainedTokenizerBase,
    args: FineTuningArguments,
) -> dict[str, Any]:
    """EM and F1 of a model.

    Args:
        model: an encoder with a span head.
        evaluation: the questions.
        tokenizer: the model's.
        args: batch size, precision and device.

    Returns:
        `exact_match` and `f1` in percent, `questions`, `eval_seconds`, `signature` of the questions and their
        decoding, layers and size of the model.
    """
    trainer = BaseTrainer(
        model=model,
        args=args,
        eval_dataset=evaluation.features,
        data_collator=collator(tokenizer),
        compute_metrics=evaluation.metrics,
    )
    results = _evaluate(trainer, model, evaluation)
    # accelerate has put an autocast with fp32 outputs around this model's forward, which would stay there: a teacher
    # would hand on hidden states of twice the size. (Its own unwrap_model strips the decorators of transformers, too.)
    for name in ("forward", "_original_forward"):
        vars(model).pop(name, None)
    return results


def evaluate_checkpoint(
    name: str,
    loading: LoadingArguments,
    data_args: DataArguments,
    *,
    batch_size: int = 64,
    bf16: bool = False,
    dtype: str = "float32",
) -> tuple[dict[str, Any], dict[str, str]]:
    """EM and F1 of a model from a folder or the Hub.

    Args:
        name: folder or model id.
        loading: how it is loaded.
        data_args: the questions.
        batch_size: windows a process and step.
        bf16: run under bf16 autocast.
        dtype: of the weights, a name of torch's; a teacher runs in bfloat16 weights in a bf16 training.

    Returns:
        What `evaluate_model` returns, and the answers: question id to text.
    """
    model = load_model(name, role="model", args=loading).to(getattr(torch, dtype))
    tokenizer = load_tokenizer(name, loading)
    with tempfile.TemporaryDirectory() as scratch:  # a trainer makes its output folder at once
        args = FineTuningArguments(
            output_dir=scratch, per_device_eval_batch_size=batch_size, bf16=bf16, report_to="none"
        )
        with args.main_process_first(desc="tokenising"):
            evaluation = load_evaluation_data(data_args, tokenizer)
        results = evaluate_model(model, evaluation, tokenizer, args)
    return results, evaluation.metrics.predictions


def load_more_teachers(
    model_args: StudentArguments,
    loading: LoadingArguments,
    tokenizer: PreTrainedTokenizerBase,
    **head: Any,
) -> list[PreTrainedModel]:
    """The further teachers that the arguments name.

    Args:
        model_args: names them.
        loading: how they are loaded.
        tokenizer: the first teacher's, which theirs must agree with.
        **head: `head` of `load_model`, for another head than the span head.

    Raises:
        UserError: one cannot be loaded, or reads other token ids than the first teacher.
    """
    for name in model_args.more_teachers:
        check_same_vocabulary(load_tokenizer(name, loading), tokenizer, role=f"teacher {name}")
    return [
        load_model(name, role="teacher", args=loading, **head) for name in model_args.more_teachers
    ]


def make_student(
    model_args: StudentArguments,
    loading: LoadingArguments,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    **head: Any,
) -> PreTrainedModel:
    """The student that the arguments ask for: of layers of the teacher, or from a checkpoint of its own.

    Args:
        model_args: which student.
        loading: how it is loaded.
        teacher: the teacher.
        tokenizer: the teacher's, which the student's must agree with.
        **head: `head` and `labels` of `load_model`, for another head than the span head.

    Raises:
        UserError: it cannot be made, or reads other token ids than the teacher.
    """
    dropout = model_args.dropout
    if model_args.student is None:
        init = model_args.student_init
        return build_student(teacher, model_args.num_layers, init=init, dropout=dropout)
    student = load_model(model_args.student, role="student", args=loading, dropout=dropout, **head)
    check_same_vocabulary(load_tokenizer(model_args.student, loading), tokenizer)
    return student


@dataclass
class _Data:
    """What a training reads, and what a trainer must be told of it."""

    training: TrainingData
    evaluation: EvaluationData
    tokenizer: PreTrainedTokenizerBase
    record: dict[str, Any]

    @property
    def collator(self) -> QuestionAnsweringCollator:
        return collator(self.tokenizer)

    def of_trainer(self) -> dict[str, Any]:
        return {
            "train_dataset": self.training.features,
            "eval_dataset": self.evaluation.features,
            "data_collator": self.collator,
            "processing_class": self.tokenizer,
            "compute_metrics": self.evaluation.metrics,
        }


def _load_data(
    data_args: DataArguments, tokenizer: PreTrainedTokenizerBase, args: FineTuningArguments
) -> _Data:
    with args.main_process_first(desc="tokenising"):
        training = load_training_data(data_args, tokenizer)
        evaluation = load_evaluation_data(data_args, tokenizer)
    seen = training.seen(evaluation) if args.process_index == 0 else 0
    if seen:
        logger.warning(
            "%d of the %d questions of %s are trained on, too, so EM and F1 say little about others.",
            seen,
            len(evaluation.examples),
            data_args.evaluation_file,
        )
    record = {}
    if training.questions:
        record["train"] = data_record(data_args.train_file, training.questions)
    if training.unlabelled:
        record["unlabelled"] = data_record(data_args.unlabelled_file, training.unlabelled)
    record["validation"] = data_record(data_args.evaluation_file, len(evaluation.examples))
    return _Data(training, evaluation, tokenizer, record)


def _judge_teacher(
    name: str, teacher: PreTrainedModel, data: _Data, args: FineTuningArguments
) -> tuple[dict[str, Any], dict[str, str]]:
    """What is known of the teacher, and its answers; both from its own folder if that is about these questions."""
    known = read_results(name) or {}
    path = Path(name) / ANALYSIS_NAME / PREDICTIONS_NAME
    if known.get("signature") == data.evaluation.signature and path.is_file():
        answers = load_predictions(path)
    else:
        judged, answers = _kept_judgement(teacher, data, args)
        known = known | judged
    chosen = {key: known[key] for key in TEACHER_KEYS if key in known}
    return {"name": public_name(name), **chosen}, answers


def _kept_judgement(
    teacher: PreTrainedModel, data: _Data, args: FineTuningArguments
) -> tuple[dict[str, Any], dict[str, str]]:
    """Scores and answers of the teacher, kept in the teacher cache for the other runs that share it.

    Several processes evaluate a teacher together, so none may find what another does not: they leave the cache aside.
    """
    kept = None
    cached = isinstance(args, ITRDTrainingArguments) and args.teacher_cache != "off"
    if cached and args.world_size == 1:
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
        kept = cache_folder(teacher, args) / f"answers-{data.evaluation.signature}-{precision}"
        judged = read_results(kept)
        if judged is not None:
            return judged, load_predictions(kept / PREDICTIONS_NAME)
    judged = evaluate_model(teacher, data.evaluation, data.tokenizer, args)
    answers = dict(data.evaluation.metrics.predictions)
    if kept is not None:
        with writing(kept):
            kept.mkdir(parents=True, exist_ok=True)
            write_json(kept / PREDICTIONS_NAME, answers)
            write_json(kept / RESULTS_NAME, judged)  # last: it says that both are there
    return judged, answers


def _similarity(student: PreTrainedModel, teacher: PreTrainedModel, data: _Data) -> dict[str, Any]:
    """How alike the layers of both are, over windows of all lengths of the evaluation."""
    features = data.evaluation.features
    every = max(1, len(features) // SIMILARITY_WINDOWS)
    windows = features.select(range(0, len(features), every)[:SIMILARITY_WINDOWS])
    columns = ("input_ids", "token_type_ids")
    rows = windows.select_columns([c for c in columns if c in windows.column_names]).to_list()
    batches = [data.collator(rows[i : i + 16]) for i in range(0, len(rows), 16)]
    return layer_similarity(student, teacher, batches)


def _evaluate(
    trainer: Trainer, model: PreTrainedModel, evaluation: EvaluationData
) -> dict[str, Any]:
    metrics = trainer.evaluate(evaluation.features)
    return {
        "exact_match": metrics["eval_exact_match"],
        "f1": metrics["eval_f1"],
        "questions": len(evaluation.examples),
        "eval_seconds": round(metrics["eval_runtime"], 1),
        "signature": evaluation.signature,
        "layers": model.config.num_hidden_layers,
        **size(model),
    }


def _saving(trainer: BaseTrainer) -> AbstractContextManager[None]:
    return writing(Path(trainer.args.output_dir), "Checkpoints in it are as they were.")


def _publish(folder: Path, results: dict[str, Any]) -> None:
    """Write card, results and report.

    results.json says that the run is finished, so it comes when all but the report, which reads it, is there.
    """
    write_text(folder / CARD_NAME, str(model_card(results, folder)))
    write_json(folder / RESULTS_NAME, results)
    write_report(folder)
