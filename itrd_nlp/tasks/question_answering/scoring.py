"""Exact match and F1 of SQuAD 1.1, of SQuAD 2.0 and of CMRC 2018.

The definition of Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text"
(EMNLP 2016), section 6.1, with the normalisation of the official evaluation: lower case, no ASCII
punctuation, no articles, single spaces. That of Rajpurkar et al., "Know What You Don't Know: Unanswerable Questions for
SQuAD" (ACL 2018), in the form of the official evaluation of SQuAD 2.0, holds where a data set has unanswerable
questions. `Rules` says which of them holds.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from itrd_nlp.tasks.question_answering import chinese

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

METRICS = {"exact_match": "EM", "f1": "F1"}
"""Name of each metric to its heading, of every data set."""
WITH_ANSWER = {"has_answer_exact_match": "HasAns EM", "has_answer_f1": "HasAns F1"}
"""Those of the questions with an answer, where there are others, too."""
WITHOUT_ANSWER = {"no_answer": "NoAns"}
"""That of the unanswerable questions: the share that was answered by "". EM and F1 of such a question are the same."""


@dataclass(frozen=True)
class Rules:
    """The definition of exact match and F1 that holds for a data set.

    Attributes:
        unanswerable: that of SQuAD 2.0. A true answer of which the normalisation leaves nothing does not count, and a
            question without any other has the true answer "". Where either answer is empty, F1 is EM.
        by_character: that of CMRC 2018, see `itrd_nlp.tasks.question_answering.chinese`.
    """

    unanswerable: bool = False
    by_character: bool = False

    def normalize(self, text: str) -> str:
        """Reduce an answer to what exact match compares."""
        return chinese.normalize_chinese(text) if self.by_character else normalize_answer(text)


SQUAD_1_1 = Rules()
"""The rules of SQuAD 1.1."""


def rules_of(examples: Iterable[Mapping[str, Any]], f1_unit: str | None = None) -> Rules:
    """The rules that hold for a data set.

    Args:
        examples: rows as `read_squad` returns them, all of the data set.
        f1_unit: ``words`` or ``characters``. Default: characters where most questions hold a Chinese one.
    """
    rows = _rows(examples)
    by_character = f1_unit == "characters"
    if f1_unit is None:
        of_chinese = sum(chinese.is_chinese(row.get("question", "")) for row in rows)
        by_character = 2 * of_chinese > len(rows)
    unanswerable = not all(row["answers"]["text"] for row in rows)
    return Rules(unanswerable=unanswerable, by_character=by_character)


def _rows(examples: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a data set, without its contexts, which repeat and are long."""
    if not isinstance(examples, Dataset):
        return list(examples)
    columns = [name for name in ("question", "answers") if name in examples.column_names]
    rows: list[Mapping[str, Any]] = examples.select_columns(columns).to_list()
    return rows


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


def best_scores(
    prediction: str | None, truths: Sequence[str], rules: Rules = SQUAD_1_1
) -> tuple[float, float]:
    """Exact match and F1 of one answer, each the best over the true answers.

    Args:
        prediction: the answer. None, which is no answer at all, has 0.
        truths: the true answers, at least one where `rules` know no unanswerable questions.
        rules: of the data set.

    Returns:
        Both between 0 and 1.
    """
    if prediction is None:
        return 0.0, 0.0
    if rules != SQUAD_1_1:
        if rules.unanswerable:
            truths = [truth for truth in truths if rules.normalize(truth)] or [""]
        pairs = [_compared(prediction, truth, rules) for truth in truths]
        return max(em for em, _ in pairs), max(f1 for _, f1 in pairs)
    # The same numbers as `_compared` gives, in less than half of the time: equal true answers are compared once.
    answer = normalize_answer(prediction)
    distinct = {normalize_answer(truth) for truth in truths}  # often one, thrice
    if answer in distinct:
        return 1.0, float(answer != "")
    words = answer.split()
    return 0.0, max(_f1_of_words(words, truth.split()) for truth in distinct)


def _compared(prediction: str, truth: str, rules: Rules) -> tuple[float, float]:
    """Exact match and F1 of two texts under any rules."""
    normalized = [rules.normalize(text) for text in (prediction, truth)]
    match = float(normalized[0] == normalized[1])
    if rules.unanswerable and not all(normalized):
        return match, match
    if rules.by_character:
        return match, chinese.f1(prediction, truth)
    return match, _f1_of_words(*(text.split() for text in normalized))


def _f1_of_words(predicted: list[str], true: list[str]) -> float:
    if set(predicted).isdisjoint(true):
        return 0.0
    common = (Counter(predicted) & Counter(true)).total()
    precision, recall = common / len(predicted), common / len(true)
    return 2 * precision * recall / (precision + recall)


def score(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    rules: Rules = SQUAD_1_1,
) -> dict[str, float]:
    """Average over all questions of the best value over the true answers of each.

    Args:
        predictions: question id to answer. A question that is missing counts 0.
        references: question id to its true answers, at least one each where `rules` know no unanswerable questions.
        rules: of the data set.

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
        best = best_scores(predictions.get(identifier), truths, rules)
        total_exact_match += best[0]
        total_f1 += best[1]
    return {
        "exact_match": 100.0 * total_exact_match / len(references),
        "f1": 100.0 * total_f1 / len(references),
    }


def scores_by_answer(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], rules: Rules
) -> dict[str, float]:
    """The scores of the questions with an answer and of those without one, where there are such.

    Args:
        predictions: question id to answer. A question that is missing counts 0.
        references: question id to its true answers; none: the question is unanswerable.
        rules: of the data set.

    Returns:
        In percent, the metrics of `WITH_ANSWER` where a question has an answer, and that of `WITHOUT_ANSWER` where one
        has none. Nothing where all have one. They are ``HasAns_exact``, ``HasAns_f1`` and ``NoAns_f1`` of the official
        evaluation of SQuAD 2.0.
    """
    if not rules.unanswerable:
        return {}
    answered = {name: truths for name, truths in references.items() if truths}
    unanswered = {name: truths for name, truths in references.items() if not truths}
    found: dict[str, float] = {}
    if answered:
        found |= zip(WITH_ANSWER, score(predictions, answered, rules).values(), strict=True)
    if unanswered:
        found["no_answer"] = score(predictions, unanswered, rules)["f1"]
    return found


def metrics_of(examples: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Name of every metric of a data set to its heading.

    Args:
        examples: rows as `read_squad` returns them.
    """
    answered = [bool(row["answers"]["text"]) for row in _rows(examples)]
    if all(answered):
        return dict(METRICS)
    return METRICS | (WITH_ANSWER if any(answered) else {}) | WITHOUT_ANSWER


def question_scores(
    predictions: Mapping[str, str],
    examples: Iterable[Mapping[str, Any]],
    rules: Rules | None = None,
) -> dict[str, NDArray[np.float64]]:
    """EM and F1 of every question, each the best over its true answers.

    Args:
        predictions: question id to answer; a question without one has 0.
        examples: rows as `read_squad` returns them.
        rules: of the data set. Default: `rules_of` the examples.

    Returns:
        Name of each of `METRICS` to values from 0 to 1, ``(questions,)`` in the order of `examples`.
    """
    rows = list(examples)
    rules = rules or rules_of(rows)
    best = [best_scores(predictions.get(row["id"]), row["answers"]["text"], rules) for row in rows]
    scores = np.array(best, dtype=np.float64).reshape(-1, 2)
    return dict(zip(METRICS, scores.T, strict=True))
