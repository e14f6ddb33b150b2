"""The SQuAD 1.1 task: read, cut into windows, decode spans, score."""

from itrd_nlp.tasks.question_answering.decoding import Span, best_answers, decode_spans
from itrd_nlp.tasks.question_answering.evaluation import (
    SquadMetrics,
    evaluate_predictions,
    load_predictions,
    load_squad_metric,
)
from itrd_nlp.tasks.question_answering.features import (
    QuestionAnsweringCollator,
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
