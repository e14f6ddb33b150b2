"""The answers of a model as a file holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.files import parse_json, read_bytes

Answers = dict[str, Any]
"""Id of an example to a model's answer, as JSON stores it."""


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
