"""Information Theoretic Representation Distillation for Hugging Face encoders.

The names below are loaded on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "CorrelationLoss": "itrd_nlp.losses",
    "DistillationModel": "itrd_nlp.distillation",
    "ITRDObjective": "itrd_nlp.objective",
    "ITRDTrainer": "itrd_nlp.trainer",
    "ITRDTrainingArguments": "itrd_nlp.training_args",
    "MutualInformationLoss": "itrd_nlp.losses",
    "QuestionAnsweringPipeline": "itrd_nlp.question_answering.pipeline",
    "UserError": "itrd_nlp.errors",
    "build_student": "itrd_nlp.students",
    "correlation_loss": "itrd_nlp.losses",
    "load_pipeline": "itrd_nlp.question_answering.pipeline",
    "mutual_information_loss": "itrd_nlp.losses",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'itrd_nlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
