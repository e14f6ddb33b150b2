"""Whole jobs on labelled texts and tokens: fine-tune a classifier, distil it. The scripts call these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer, resolve_pairs
from itrd_nlp.errors import UserError
from itrd_nlp.files import file_record, write_json, write_text, writing
from itrd_nlp.models.loading import (
    LoadingArguments,
    load_model,
    load_tokenizer,
)
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.publish.model_card import CARD_NAME, model_card
from itrd_nlp.tasks.classification.data import Row, TextArguments, is_tokens, label_names, read_rows
from itrd_nlp.tasks.classification.features import classification_features, collator
from itrd_nlp.tasks.classification.metrics import ClassificationMetrics, best_class
from itrd_nlp.tasks.question_answering.workflows import (
    StudentArguments,
    TeacherArguments,
    load_more_teachers,
    make_student,
)
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
from itrd_nlp.training.results import RESULTS_NAME, print_summary, size
from itrd_nlp.training.trainer import BaseTrainer

METRICS = {"accuracy": "accuracy", "f1": "F1"}


@dataclass
class _Data:
    """The rows of both files."""

    train: list[Row]
    validation: list[Row]
    record: dict[str, Any]
    max_length: int

    @property
    def head(self) -> type:
        tokens = is_tokens(self.train)
        return AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification

    def of_trainer(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """What a trainer of this model must be told."""
        label2id = {name: i for i, name in model.config.id2label.items()}
        features = [
            classification_features(rows, tokenizer, label2id, max_length=self.max_length)
            for rows in (self.train, self.validation)
        ]
        names = [model.config.id2label[i] for i in range(len(label2id))]
        return {
            "train_dataset": features[0],
            "eval_dataset": features[1],
            "data_collator": collator(self.train, tokenizer),
            "processing_class": tokenizer,
            "compute_metrics": ClassificationMetrics(names, tokens=is_tokens(self.train)),
            "preprocess_logits_for_metrics": best_class,
        }


def fine_tune_classifier(
    model_args: TeacherArguments,
    loading: LoadingArguments,
    text_args: TextArguments,
    args: FineTuningArguments,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune an encoder on labelled texts or tokens and evaluate it.

    Args:
        model_args: which encoder.
        loading: how it is loaded.
        text_args: the texts.
        args: the training.
        record: what else goes into results.json, such as the command.

    Returns:
        The content of results.json. Where output_dir holds a finished run of the same arguments, that one's.

    Raises:
        UserError: something cannot be used; output_dir holds a finished run of other arguments.
    """
    arguments = chosen_arguments(model_args, loading, text_args, args)
    finished = finished_run(args.output_dir, arguments)
    if finished is not None:
        _show([summary_row("teacher", finished)], f"Finished already: {args.output_dir}")
        push_finished(args)
        return finished
    data = _load(text_args)
    name = model_args.model_name_or_path
    set_seed(args.seed)  # before the weights of the head are drawn
    model = load_model(
        name,
        role="encoder",
        args=loading,
        dropout=model_args.dropout,
        head=data.head,
        labels=label_names(data.train),
    )
    trainer = HubTrainer(
        model=model, args=args, **data.of_trainer(model, load_tokenizer(name, loading))
    )
    results = train_and_evaluate(trainer, lambda: _evaluate(trainer, model, data), data.record)
    results |= {"base_model": public_name(name), **license_record(name)}
    results |= {"arguments": arguments, **(record or {})}
    _save(trainer, results)
    if trainer.is_world_process_zero():
        _show([summary_row("teacher", results)], f"Fine-tuned: {args.output_dir}")
    return results


def distil_classifier(
    model_args: StudentArguments,
    loading: LoadingArguments,
    text_args: TextArguments,
    args: ITRDTrainingArguments,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Distil a classifier of texts or tokens into a student and evaluate both.

    Args:
        model_args: teacher and student.
        loading: how models are loaded.
        text_args: the texts. Their labels must be the teacher's.
        args: training and objective.
        record: what else goes into results.json, such as the command.

    Returns:
        The content of results.json. Where output_dir holds a finished run of the same arguments, that one's.

    Raises:
        UserError: something cannot be used; output_dir holds a finished run of other arguments.
    """
    arguments = chosen_arguments(model_args, loading, text_args, args)
    finished = finished_run(args.output_dir, arguments)
    if finished is not None:
        rows = [summary_row("teacher", finished["teacher"]), summary_row("student", finished)]
        _show(rows, f"Finished already: {args.output_dir}")
        push_finished(args)
        return finished
    data = _load(text_args)
    set_seed(args.seed)  # before a student of random weights is drawn
    teacher = load_model(model_args.teacher, role="teacher", args=loading, head=data.head)
    tokenizer = load_tokenizer(model_args.teacher, loading)
    names = [teacher.config.id2label[i] for i in range(teacher.config.num_labels)]
    student = make_student(model_args, loading, teacher, tokenizer, head=data.head, labels=names)
    others = load_more_teachers(model_args, loading, tokenizer, head=data.head)
    for name, other in zip(model_args.more_teachers, others, strict=True):
        if other.config.id2label != teacher.config.id2label:
            raise UserError(
                f"teacher {name} has the labels {list(other.config.id2label.values())}, but the first teacher "
                f"{names}; they must be the same in the same order."
            )
    resolve_pairs(student, teacher, args, others)  # refuse what does not fit before the work begins
    of_trainer = data.of_trainer(teacher, tokenizer)
    trainer = ITRDTrainer(
        model=student, teacher=teacher, args=args, more_teachers=others, **of_trainer
    )
    results = train_and_evaluate(trainer, lambda: _evaluate(trainer, student, data), data.record)
    judge = BaseTrainer(model=teacher.float(), args=args, **of_trainer)
    taught = {"name": public_name(model_args.teacher), **_evaluate(judge, teacher, data)}
    results |= {
        "teacher": taught,
        **license_record(model_args.student or model_args.teacher),
        "arguments": arguments,
        **(record or {}),
    }
    _save(trainer, results)
    if trainer.is_world_process_zero():
        rows = [summary_row("teacher", taught), summary_row("student", results)]
        _show(rows, f"Distilled: {args.output_dir}")
    return results


def _load(args: TextArguments) -> _Data:
    train = read_rows(args.train_file, args.max_train_samples)
    validation = read_rows(args.validation_file, args.max_eval_samples)
    if is_tokens(train) != is_tokens(validation):
        raise UserError(
            f"{args.train_file} and {args.validation_file} are of different kinds; both must have a label a text, or "
            "both a label a token."
        )
    if len(label_names(train)) < 2:
        raise UserError(
            f"{args.train_file} has the label {label_names(train)[0]!r} alone, but at least two are needed."
        )
    record = {
        "train": file_record(args.train_file, rows=len(train)),
        "validation": file_record(args.validation_file, rows=len(validation)),
    }
    return _Data(train, validation, record, args.max_length)


def _evaluate(trainer: BaseTrainer, model: PreTrainedModel, data: _Data) -> dict[str, Any]:
    metrics = trainer.evaluate()
    return {
        **{name: metrics[f"eval_{name}"] for name in METRICS},
        "rows": len(data.validation),
        "eval_seconds": round(metrics["eval_runtime"], 1),
        "layers": model.config.num_hidden_layers,
        **size(model),
    }


def _save(trainer: HubTrainer, results: dict[str, Any]) -> None:
    folder = Path(trainer.args.output_dir)
    with writing(folder, "Checkpoints in it are as they were."):
        trainer.save_model(_internal_call=True)  # pushed below, with its results
        if trainer.is_world_process_zero():
            write_text(folder / CARD_NAME, str(model_card(results, folder)))
            write_json(folder / RESULTS_NAME, results)
    if trainer.args.push_to_hub:
        trainer.push_to_hub()


def _show(rows: list[dict[str, Any]], title: str) -> None:
    print_summary(rows, title, METRICS)
