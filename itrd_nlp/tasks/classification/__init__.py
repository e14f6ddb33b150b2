"""Classification and regression of texts and pairs of texts, and labels of tokens. Names are loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itrd_nlp.tasks.classification.arguments import TextArguments
    from itrd_nlp.tasks.classification.data import read_rows
    from itrd_nlp.tasks.classification.features import classification_features
    from itrd_nlp.tasks.classification.from_squad import (
        name_spans,
        punctuation_marks,
        sentence_pairs,
    )
    from itrd_nlp.tasks.classification.metrics import ClassificationMetrics

__all__ = [
    "ClassificationMetrics",
    "TextArguments",
    "classification_features",
    "name_spans",
    "punctuation_marks",
    "read_rows",
    "sentence_pairs",
]

_HOME = {
    "ClassificationMetrics": "metrics",
    "TextArguments": "arguments",
    "classification_features": "features",
    "name_spans": "from_squad",
    "punctuation_marks": "from_squad",
    "read_rows": "data",
    "sentence_pairs": "from_squad",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
