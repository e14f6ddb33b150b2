"""Information Theoretic Representation Distillation for Hugging Face encoders.

The names below are loaded on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from itrd_nlp._moved import find_moved_modules

if TYPE_CHECKING:  # for editors and type checkers, which do not call `__getattr__`
    from itrd_nlp.distillation.arguments import ITRDTrainingArguments
    from itrd_nlp.distillation.model import DistillationModel
    from itrd_nlp.distillation.objective import ITRDObjective
    from itrd_nlp.distillation.trainer import ITRDTrainer
    from itrd_nlp.errors import UserError
    from itrd_nlp.losses import (
        CorrelationLoss,
        MutualInformationLoss,
        correlation_loss,
        mutual_information_loss,
    )
    from itrd_nlp.models.students import build_student
    from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline, load_pipeline

__version__ = "0.1.0"

find_moved_modules()

__all__ = [
    "CorrelationLoss",
    "DistillationModel",
    "ITRDObjective",
    "ITRDTrainer",
    "ITRDTrainingArguments",
    "MutualInformationLoss",
    "QuestionAnsweringPipeline",
    "UserError",
    "build_student",
    "correlation_loss",
    "load_pipeline",
    "mutual_information_loss",
]

_HOME = {
    "CorrelationLoss": "itrd_nlp.losses",
    "DistillationModel": "itrd_nlp.distillation.model",
    "ITRDObjective": "itrd_nlp.distillation.objective",
    "ITRDTrainer": "itrd_nlp.distillation.trainer",
    "ITRDTrainingArguments": "itrd_nlp.distillation.arguments",
    "MutualInformationLoss": "itrd_nlp.losses",
    "QuestionAnsweringPipeline": "itrd_nlp.tasks.question_answering.pipeline",
    "UserError": "itrd_nlp.errors",
    "build_student": "itrd_nlp.models.students",
    "correlation_loss": "itrd_nlp.losses",
    "load_pipeline": "itrd_nlp.tasks.question_answering.pipeline",
    "mutual_information_loss": "itrd_nlp.losses",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'itrd_nlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
