"""The answers of a model as a file holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.files import parse_json, read_bytes

Answers = dict[str, Any]
"""Id of an example to a model's answer, as JSON stores it."""


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
