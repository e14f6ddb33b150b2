"""EM and F1 of a model in a `transformers.Trainer`, or of a file of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.arguments import MAX_ANSWER_LENGTH
from itrd_nlp.tasks.question_answering.decoding import best_answers
from itrd_nlp.tasks.question_answering.no_answer import ScoredAnswers, answers_and_differences
from itrd_nlp.tasks.question_answering.read import read_json_and_digest
from itrd_nlp.tasks.question_answering.scoring import Rules, rules_of, score, scores_by_answer

if TYPE_CHECKING:
    from evaluate import Metric


def load_squad_metric() -> Metric:
    """The metric module `squad_em_f1` of this package, for those who use the library `evaluate`.

    The package itself calls `itrd_nlp.tasks.question_answering.scoring.score`, which gives these numbers, because to
    import `evaluate` takes seconds. The metric works without a network and without files in a cache, so also in
    several processes at once.
    `evaluate.load` on the folder of the module gives the same metric.

    Example:
        >>> metric = load_squad_metric()
        >>> metric.compute(
        ...     predictions=[{"id": "1", "prediction_text": "the Eiffel tower"}],
        ...     references=[{"id": "1", "answers": {"text": ["Eiffel"], "answer_start": [0]}}],
        ... )
        {'exact_match': 0.0, 'f1': 66.66666666666666}
    """
    from itrd_nlp.tasks.question_answering.squad_em_f1.squad_em_f1 import SquadEMF1

    return SquadEMF1(keep_in_memory=True)


def evaluate_predictions(
    predictions: Mapping[str, str], examples: Dataset, rules: Rules | None = None
) -> dict[str, float]:
    """Score answers against the questions of a data set.

    Args:
        predictions: question id to answer; "" says that there is none.
        examples: rows as `read_squad` returns them.
        rules: of the data set. Default: `rules_of` the examples.

    Returns:
        `exact_match` and `f1` in percent over all questions, those of `scores_by_answer` where some are unanswerable,
        `questions`, and `missing`: how many questions have no prediction. Each of these counts 0.

    Raises:
        UserError: not one prediction belongs to a question of the data set.
    """
    identifiers = examples["id"][:]
    missing = sum(identifier not in predictions for identifier in identifiers)
    if missing == len(identifiers):
        raise UserError(
            f"None of the {len(predictions)} predictions has the id of one of the"
            f" {len(identifiers)} questions."
        )
    answers = zip(identifiers, examples["answers"][:], strict=True)
    rules = rules or rules_of(examples)
    given = {i: predictions[i] for i in identifiers if predictions.get(i) is not None}
    references = {i: answer["text"] for i, answer in answers}
    result = score(given, references, rules) | scores_by_answer(given, references, rules)
    return {**result, "questions": len(identifiers), "missing": missing}


def load_predictions(path: str | Path) -> dict[str, str]:
    """Read a prediction file: one JSON object, question id to answer.

    Raises:
        UserError: the file is missing, not JSON, not such an object or has an id twice.
    """
    content, _ = read_json_and_digest(Path(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: the file must be one JSON object, question id to answer.")
    for identifier, text in content.items():
        if not isinstance(text, str):
            raise UserError(
                f"{path}: the prediction of question {identifier} is {type(text).__name__},"
                " but must be a text."
            )
    return content


class SquadMetrics:
    """`compute_metrics` of a `transformers.Trainer` for a span head.

    Args:
        examples: the questions, as `read_squad` returns them.
        features: their windows, as `evaluation_features` returns them, and the evaluation data of
            the trainer, in this order.
        max_answer_length: most tokens per answer.
        rules: of the data set. Default: `rules_of` the examples.
        threshold: answer "" where the score of no answer is further ahead of the best span. Default: "" is no answer.
        cls_index: place of the token that stands for no answer.

    Attributes:
        predictions: question id to answer, of the last call.
        threshold: as given; it may be set between two calls.

    Returns:
        When called: `exact_match` and `f1`, in percent, and those of `scores_by_answer`.

    Example:
        >>> metrics = SquadMetrics(examples, features)  # doctest: +SKIP
        >>> Trainer(model, args, eval_dataset=features, compute_metrics=metrics)  # doctest: +SKIP
    """

    def __init__(
        self,
        examples: Dataset,
        features: Dataset,
        *,
        max_answer_length: int = MAX_ANSWER_LENGTH,
        rules: Rules | None = None,
        threshold: float | None = None,
        cls_index: int = 0,
    ) -> None:
        if max_answer_length < 1:
            raise UserError(f"max_answer_length is {max_answer_length}, but must be at least 1.")
        self.examples = examples
        self.features = features
        self.max_answer_length = max_answer_length
        self.rules = rules or rules_of(examples)
        self.threshold = threshold
        self.cls_index = cls_index
        self.predictions: dict[str, str] = {}

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        logits: Any = outputs.predictions  # (start, end); transformers types it as an array
        if self.threshold is None:
            self.predictions = best_answers(
                logits[0],
                logits[1],
                self.features,
                self.examples,
                max_answer_length=self.max_answer_length,
            )
        else:
            self.predictions = self.answers(logits).at(self.threshold)
        result = evaluate_predictions(self.predictions, self.examples, self.rules)
        return {n: value for n, value in result.items() if n not in ("questions", "missing")}

    def answers(self, logits: Any) -> ScoredAnswers:
        """The best spans, and by how much no answer is ahead of each.

        Args:
            logits: start and end logits, each ``(windows, L)`` in the order of the features.
        """
        return answers_and_differences(
            logits[0],
            logits[1],
            self.features,
            self.examples,
            cls_index=self.cls_index,
            max_answer_length=self.max_answer_length,
        )
