"""Extractive question answering on SQuAD 1.1, 2.0 and data of their form. The names are loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itrd_nlp.tasks.question_answering.collator import QuestionAnsweringCollator
    from itrd_nlp.tasks.question_answering.decoding import Span, best_answers, decode_spans
    from itrd_nlp.tasks.question_answering.evaluation import (
        SquadMetrics,
        evaluate_predictions,
        load_predictions,
        load_squad_metric,
    )
    from itrd_nlp.tasks.question_answering.features import (
        evaluation_features,
        training_features,
    )
    from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline, load_pipeline
    from itrd_nlp.tasks.question_answering.read import read_squad
    from itrd_nlp.tasks.question_answering.scoring import exact_match, f1, normalize_answer, score

__all__ = [
    "QuestionAnsweringCollator",
    "QuestionAnsweringPipeline",
    "Span",
    "SquadMetrics",
    "best_answers",
    "decode_spans",
    "evaluate_predictions",
    "evaluation_features",
    "exact_match",
    "f1",
    "load_pipeline",
    "load_predictions",
    "load_squad_metric",
    "normalize_answer",
    "read_squad",
    "score",
    "training_features",
]

_HOME = {
    **dict.fromkeys(("Span", "best_answers", "decode_spans"), "decoding"),
    **dict.fromkeys(("SquadMetrics", "evaluate_predictions"), "evaluation"),
    **dict.fromkeys(("load_predictions", "load_squad_metric"), "evaluation"),
    **dict.fromkeys(("evaluation_features", "training_features"), "features"),
    **dict.fromkeys(("QuestionAnsweringPipeline", "load_pipeline"), "pipeline"),
    **dict.fromkeys(("exact_match", "f1", "normalize_answer", "score"), "scoring"),
    "QuestionAnsweringCollator": "collator",
    "read_squad": "read",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
