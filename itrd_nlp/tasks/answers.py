"""The answers of a model as a file holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.files import parse_json, read_bytes

Answers = dict[str, Any]
"""Id of an example to a model's answer, as JSON stores it."""

_NEAR = 1e-3  # of the range of the answers


def check_numbers(bad: int, count: int, examples: str, output: str) -> None:
    """Refuse outputs of a model that are not a number (NaN), which say nothing.

    Args:
        bad: how many examples have such an output.
        count: number of the examples.
        examples: the noun for them.
        output: what the model gives for each, such as ``logits``.

    Raises:
        UserError: counts them.
    """
    if bad:
        raise UserError(
            f"the model gives {bad} of {count} {examples} {output} with NaN, which is no number; its weights are not "
            "those of a trained model."
        )


def check_scores(scores: Mapping[str, float]) -> None:
    """Refuse scores of a model that are no finite numbers, which no record holds.

    Args:
        scores: name of a metric to its value.

    Raises:
        UserError: names the metric.
    """
    for name, value in scores.items():
        if not math.isfinite(value):
            raise UserError(
                f"the score {name} of the model is {value}, but must be a finite number; its weights are not those of "
                "a trained model."
            )


def answers_to(answers: Mapping[str, Any], count: int, where: str, unit: str) -> Answers:
    """The answers that have the number of an example, from 0 on.

    Args:
        answers: number of an example to its answer. Others may be among them.
        count: number of the examples.
        where: name of the file, for the sentence.
        unit: the noun for examples.

    Raises:
        UserError: there is none.
    """
    kept = {str(i): answers[str(i)] for i in range(count) if str(i) in answers}
    if not kept:
        raise UserError(
            f"{where}: none of the {len(answers)} answers has the number of one of the {count} {unit}."
        )
    return kept


def check_orders(
    answers: Mapping[str, Any], counts: Sequence[int], where: str, *, whose: str, first: str
) -> dict[str, Any]:
    """Refuse answers that are no lists of numbers of passages.

    Args:
        answers: number of a query, from 0 on, to the numbers of passages.
        counts: of each query how many passages there are to choose from.
        where: name of the file, for the sentence.
        whose: whose passages they are, for the sentence.
        first: which of them comes first, for the sentence.

    Returns:
        The answers to the queries that there are.

    Raises:
        UserError: names the query.
    """
    kept = answers_to(answers, len(counts), where, "queries")
    for name, order in kept.items():
        count = counts[int(name)]
        numbers = isinstance(order, list) and all(
            isinstance(i, int) and not isinstance(i, bool) and 0 <= i < count for i in order
        )
        if not numbers or len(set(order)) != len(order):
            raise UserError(
                f"{where}: the answer to query {name} must be a list of numbers of {whose} {count} passages, from 0 on "
                f"and each once, the {first} first."
            )
    return kept


def read_answers(path: Path) -> Answers:
    """The answers that a run has left: one JSON object, id of an example to the answer.

    Raises:
        UserError: the file is missing or no such object.
    """
    try:
        content = parse_json(read_bytes(path))
    except UserError:  # it cannot be read at all
        raise
    except ValueError as error:
        raise UserError(f"{path}: the file is truncated or not JSON ({error}).") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: the file must be one JSON object, id of an example to answer.")
    return content


def share_of_same(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """The percent of the examples to which two forms of a model give the same answer.

    Two forms do not compute the same number to the last digit. An answer that is a number, such as a cosine, is
    therefore the same within a thousandth of the range of the first form's answers, or of the number itself where they
    are all equal. Numbers in a list that are not whole stand beside what is answered, as the cross entropy of a
    predicted token does, and do not count.

    Args:
        first: id of an example to the answer of one form, with all ids of `second`.
        second: the same of the other form, for one example at least.
    """
    numbers = [answer for answer in first.values() if isinstance(answer, float)]
    spread = max(numbers) - min(numbers) if numbers else 0.0
    same = sum(_same(first[name], answer, spread) for name, answer in second.items())
    return 100 * same / len(second)


def _same(first: Any, second: Any, spread: float) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=0.0, abs_tol=_NEAR * (spread or abs(first)))
    return bool(_said(first) == _said(second))


def _said(answer: Any) -> Any:
    """An answer without the numbers that stand beside it. Whole numbers name something, such as a passage."""
    if isinstance(answer, list):
        return [_said(part) for part in answer if not isinstance(part, float)]
    return answer
