"""Information Theoretic Representation Distillation for Hugging Face encoders.

The names below are loaded on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

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


# Modules that published cards, Spaces and users' files import, and where they live now.
_MOVED = {
    "itrd_nlp.classification": "itrd_nlp.tasks.classification",
    "itrd_nlp.demo": "itrd_nlp.tasks.demo",
    "itrd_nlp.hub": "itrd_nlp.tasks.jobs.push",
    "itrd_nlp.integrations": "itrd_nlp.distillation",
    "itrd_nlp.layer_map": "itrd_nlp.distillation.layer_map",
    "itrd_nlp.outputs": "itrd_nlp.losses.outputs",
    "itrd_nlp.question_answering": "itrd_nlp.tasks.question_answering",
    "itrd_nlp.report": "itrd_nlp.publish.report",
    "itrd_nlp.representations": "itrd_nlp.losses.views",
    "itrd_nlp.trainer": "itrd_nlp.distillation.trainer",
    "itrd_nlp.training_args": "itrd_nlp.distillation.arguments",
}


class _MovedModules(MetaPathFinder, Loader):
    """Gives the module of today to an import of its old name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if any(fullname == old or fullname.startswith(f"{old}.") for old in _MOVED):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        old = next(old for old in _MOVED if name == old or name.startswith(f"{old}."))
        # Python takes what is in sys.modules after the import, so both names are one module.
        sys.modules[name] = importlib.import_module(_MOVED[old] + name.removeprefix(old))


sys.meta_path.insert(0, _MovedModules())  # before the finder that would load the file a second time
