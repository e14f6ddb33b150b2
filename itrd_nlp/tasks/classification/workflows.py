"""The jobs of `itrd_nlp.tasks.jobs` on labelled texts, under the names that they had before there were other tasks."""

from __future__ import annotations

from typing import Any

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.classification.task import Classification
from itrd_nlp.tasks.jobs import distil as distillation
from itrd_nlp.tasks.jobs import fine_tune as fine_tuning
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.training.arguments import FineTuningArguments


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
