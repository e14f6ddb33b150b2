"""The jobs of `itrd_nlp.tasks.jobs` on SQuAD and on labelled texts, in one call each, for tests."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.classification.task import Classification
from itrd_nlp.tasks.jobs import distil as distillation
from itrd_nlp.tasks.jobs import evaluate as evaluation_job
from itrd_nlp.tasks.jobs import fine_tune as fine_tuning
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.collator import QuestionAnsweringCollator
from itrd_nlp.tasks.question_answering.data import EvaluationData
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.tasks.task import TaskData
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.record import RunRecord


def fine_tune(
    model_args: TeacherArguments,
    loading: LoadingArguments,
    data_args: DataArguments,
    args: FineTuningArguments,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`itrd_nlp.tasks.jobs.fine_tune.fine_tune` on SQuAD. Returns the content of results.json."""
    task = QuestionAnswering(data_args)
    return fine_tuning.fine_tune(task, model_args, loading, args, record).as_json()


def distil(
    model_args: StudentArguments,
    loading: LoadingArguments,
    data_args: DataArguments,
    args: distillation.DistillationArguments,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`itrd_nlp.tasks.jobs.distil.distil` on SQuAD. Returns the content of results.json."""
    task = QuestionAnswering(data_args)
    return distillation.distil(task, model_args, loading, args, record).as_json()


def evaluate_model(
    model: PreTrainedModel,
    evaluation: EvaluationData,
    tokenizer: PreTrainedTokenizerBase,
    args: FineTuningArguments,
) -> dict[str, Any]:
    """`itrd_nlp.tasks.jobs.evaluate.judge` on SQuAD. Returns scores, size and signature as results.json has them."""
    data = TaskData(
        examples=evaluation.examples,
        evaluation=evaluation.features,
        judge=evaluation.metrics,
        signature=evaluation.signature,
        collator=QuestionAnsweringCollator(tokenizer),
        tokenizer=tokenizer,
        datasets={},
    )
    task = QuestionAnswering(DataArguments())
    return _scores(evaluation_job.judge(task, model, data, args))


def evaluate_checkpoint(
    name: str,
    loading: LoadingArguments,
    data_args: DataArguments,
    *,
    batch_size: int = 64,
    bf16: bool = False,
    dtype: str = "float32",
) -> tuple[dict[str, Any], dict[str, str]]:
    """`itrd_nlp.tasks.jobs.evaluate.evaluate` on SQuAD."""
    task = QuestionAnswering(data_args)
    record, answers = evaluation_job.evaluate(
        task, name, loading, batch_size=batch_size, bf16=bf16, dtype=dtype
    )
    return _scores(record), answers


def fine_tune_classifier(
    model_args: TeacherArguments,
    loading: LoadingArguments,
    text_args: TextArguments,
    args: FineTuningArguments,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`itrd_nlp.tasks.jobs.fine_tune.fine_tune` on labelled texts. Returns the content of results.json."""
    task = Classification(text_args)
    return fine_tuning.fine_tune(task, model_args, loading, args, record).as_json()


def distil_classifier(
    model_args: StudentArguments,
    loading: LoadingArguments,
    text_args: TextArguments,
    args: ITRDTrainingArguments,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`itrd_nlp.tasks.jobs.distil.distil` on labelled texts. Returns the content of results.json."""
    task = Classification(text_args)
    return distillation.distil(task, model_args, loading, args, record).as_json()


def _scores(record: RunRecord) -> dict[str, Any]:
    """The content of a record without the fields that say how to read the file."""
    return {k: v for k, v in record.as_json().items() if k not in ("version", "task", "metrics")}
