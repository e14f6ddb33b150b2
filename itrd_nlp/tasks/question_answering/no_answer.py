"""When a model answers "": the score of no answer, and the threshold that it must pass.

The definition of the baselines for SQuAD 2.0, which the examples of transformers share: the score of no answer is the
start logit plus the end logit of the first token, the lowest over the windows of a question. A question gets the answer
"" where that score minus the score of the best span is above a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.arguments import (
    MAX_ANSWER_LENGTH,
    NULL_THRESHOLD,
    THRESHOLD_FIELD,
)
from itrd_nlp.tasks.question_answering.decoding import best_spans
from itrd_nlp.tasks.question_answering.scoring import Rules, best_scores


class ScoredAnswers(NamedTuple):
    """The best span of each question, and by how much no answer is ahead of it.

    Attributes:
        texts: question id to the text of its best span, "" where there is no span. A question without windows has no
            entry.
        differences: question id to the score of no answer minus that of the best span; ``inf`` where there is no span.
    """

    texts: dict[str, str]
    differences: dict[str, float]

    def at(self, threshold: float) -> dict[str, str]:
        """The answers under a threshold: "" where the difference is above it."""
        return {
            name: "" if self.differences[name] > threshold else text
            for name, text in self.texts.items()
        }


def threshold_of(config: Any) -> float | None:
    """The threshold that the configuration of a model holds, None where it holds none.

    Raises:
        UserError: it is no number.
    """
    value = getattr(config, THRESHOLD_FIELD, None)  # a field that most configurations lack
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in NULL_THRESHOLD:
        name = Path(str(getattr(config, "name_or_path", "") or "the model")).name
        raise UserError(
            f"config.json of {name}: {THRESHOLD_FIELD} is {str(value)[:60]!r}, but must be a number {NULL_THRESHOLD}."
        )
    return float(value)


def answers_and_differences(
    start_logits: npt.NDArray[np.floating[Any]],
    end_logits: npt.NDArray[np.floating[Any]],
    features: Dataset,
    examples: Dataset,
    *,
    cls_index: int = 0,
    max_answer_length: int = MAX_ANSWER_LENGTH,
) -> ScoredAnswers:
    """Find the best span of each question, and compare it with no answer.

    Args:
        start_logits: ``(N, L)``, one row per window in the order of `features`.
        end_logits: ``(N, L)``.
        features: ``N`` windows, as `evaluation_features` returns them.
        examples: the questions from which the windows were made.
        cls_index: place of the token that stands for no answer.
        max_answer_length: most tokens per span.

    Raises:
        UserError: shapes, windows and questions do not fit together, a number is below 1, or a logit is NaN.
    """
    best = best_spans(start_logits, end_logits, features, examples, 1, max_answer_length)
    identifiers, contexts = examples["id"][:], examples["context"][:]
    null = _null_scores(start_logits, end_logits, features, cls_index)
    texts = dict.fromkeys((name for name in identifiers if name in null), "")
    differences = dict.fromkeys(texts, math.inf)
    for example, start, end, logit in zip(
        *(part.tolist() for part in (best.example, best.start, best.end, best.logit)), strict=True
    ):
        name = identifiers[example]
        texts[name] = contexts[example][start:end]
        differences[name] = null[name] - logit
    return ScoredAnswers(texts, differences)


def best_threshold(
    answers: ScoredAnswers, references: Mapping[str, Sequence[str]], rules: Rules
) -> float:
    """The threshold with the highest mean F1.

    Only the order of the differences counts, so the threshold lies halfway between two of them, or 1 beyond the
    outermost. Of thresholds with the same F1 the one nearest to 0 is taken.

    Args:
        answers: of the questions on which it is found.
        references: question id to its true answers.
        rules: of the data set that the questions are of.

    Raises:
        UserError: no question has a span, or a difference is no finite number.
    """
    names = [name for name, d in answers.differences.items() if d != math.inf]
    differences = np.array([answers.differences[name] for name in names], dtype=np.float64)
    if not len(names) or not np.isfinite(differences).all():
        raise UserError(
            f"{THRESHOLD_FIELD} cannot be found: the model scores no span of the questions held out for it by a finite "
            "number."
        )
    gains = [
        best_scores(answers.texts[name], references[name], rules)[1]
        - best_scores("", references[name], rules)[1]
        for name in names
    ]
    order = np.argsort(differences, kind="stable")
    values, begins = np.unique(differences[order], return_index=True)
    answered = np.append(0.0, np.cumsum(np.array(gains)[order]))
    totals = answered[np.append(begins, len(names))]  # with the k smallest values answered
    low = np.append(values[0] - 2.0, values)
    high = np.append(values, values[-1] + 2.0)
    middle = (low + high) / 2
    cuts = np.where((low <= middle) & (middle < high), middle, low)
    best = np.flatnonzero(totals >= totals.max() - 1e-9)
    return float(min(cuts[best], key=abs))


def _null_scores(
    start: npt.NDArray[np.floating[Any]],
    end: npt.NDArray[np.floating[Any]],
    features: Dataset,
    cls_index: int,
) -> dict[str, float]:
    """Question id to the score of no answer: no window may have one, so the lowest counts."""
    dtype = np.result_type(start.dtype, np.float32)  # that of the spans
    scores = start[:, cls_index].astype(dtype) + end[:, cls_index].astype(dtype)
    if np.isnan(scores).any():
        raise UserError("The logits have NaN at the first token.")
    lowest: dict[str, float] = {}
    for name, value in zip(features["example_id"][:], scores.tolist(), strict=True):
        lowest[name] = min(value, lowest.get(name, math.inf))
    return lowest
