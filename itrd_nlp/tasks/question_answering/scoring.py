"""Exact match and F1 of SQuAD 1.1.

The definition of Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text"
(EMNLP 2016), section 6.1, with the normalisation of the official evaluation: lower case, no ASCII
punctuation, no articles, single spaces.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=1 << 16)
def normalize_answer(text: str) -> str:
    """Reduce an answer to what is compared.

    Example:
        >>> normalize_answer("The  U.S. Senate")
        'us senate'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, truth: str) -> float:
    """1.0 if both are the same after normalisation, else 0.0."""
    return float(normalize_answer(prediction) == normalize_answer(truth))


def f1(prediction: str, truth: str) -> float:
    """Harmonic mean of precision and recall over the normalised words, from 0.0 to 1.0.

    Words count as often as they occur. Without a common word it is 0, even if both are empty.
    """
    return _f1_of_words(normalize_answer(prediction).split(), normalize_answer(truth).split())


def best_scores(prediction: str | None, truths: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of one answer, each the best over the true answers.

    Args:
        prediction: the answer. None, which is no answer at all, has 0.
        truths: the true answers, at least one.

    Returns:
        Both between 0 and 1.
    """
    if prediction is None:
        return 0.0, 0.0
    answer = normalize_answer(prediction)
    distinct = {normalize_answer(truth) for truth in truths}  # often one, thrice
    if answer in distinct:
        return 1.0, float(answer != "")
    words = answer.split()
    return 0.0, max(_f1_of_words(words, truth.split()) for truth in distinct)


def _f1_of_words(predicted: list[str], true: list[str]) -> float:
    if set(predicted).isdisjoint(true):
        return 0.0
    common = (Counter(predicted) & Counter(true)).total()
    precision, recall = common / len(predicted), common / len(true)
    return 2 * precision * recall / (precision + recall)


def score(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Average over all questions of the best value over the true answers of each.

    Args:
        predictions: question id to answer. A question that is missing counts 0.
        references: question id to its true answers, at least one each.

    Returns:
        `exact_match` and `f1`, in percent.

    Raises:
        ValueError: there is no reference.

    Example:
        >>> score({"1": "the Eiffel tower"}, {"1": ["Eiffel Tower", "tower"], "2": ["Rome"]})
        {'exact_match': 50.0, 'f1': 50.0}
    """
    if not references:
        raise ValueError("There is no reference to score against.")
    total_exact_match = total_f1 = 0.0
    for identifier, truths in references.items():
        best = best_scores(predictions.get(identifier), truths)
        total_exact_match += best[0]
        total_f1 += best[1]
    return {
        "exact_match": 100.0 * total_exact_match / len(references),
        "f1": 100.0 * total_f1 / len(references),
    }


def question_scores(
    predictions: Mapping[str, str], examples: Iterable[Mapping[str, Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """F1 and EM of every question, each the best over its true answers.

    Args:
        predictions: question id to answer; a question without one has 0.
        examples: rows as `read_squad` returns them.

    Returns:
        F1 and EM from 0 to 1, each ``(questions,)`` in the order of `examples`.
    """
    best = [best_scores(predictions.get(row["id"]), row["answers"]["text"]) for row in examples]
    scores = np.array(best, dtype=np.float64).reshape(-1, 2)
    return scores[:, 1], scores[:, 0]
