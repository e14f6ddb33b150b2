"""Modules that published cards, Spaces and users' files import, and where they live now."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

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


def find_moved_modules() -> None:
    """Let `import` find the modules of today by their old names."""
    sys.meta_path.insert(0, _MovedModules())  # before the finder that would load the file again
