"""The inputs of the pipeline: questions with their contexts, checked before the model runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itrd_nlp.errors import UserError


def pairs(question: Any, context: Any) -> dict[str, Any] | list[dict[str, Any]]:
    """The inputs of a call with question and context.

    Args:
        question: a text, or a list of texts.
        context: a text for all questions, or a list of the same length.

    Raises:
        UserError: one is missing or of another kind.
    """
    for name, value in (("question", question), ("context", context)):
        if value is None:
            raise UserError(f"There is no {name}, but a call needs a question and its context.")
    if isinstance(question, str):
        return {"question": question, "context": context}
    if not isinstance(question, list | tuple):
        raise UserError(f"question is {shown(question)}, but must be a text or a list of texts.")
    contexts = [context] * len(question) if isinstance(context, str) else context
    if not isinstance(contexts, list | tuple) or len(contexts) != len(question):
        raise UserError(
            f"question is a list of {len(question)}, but context is {shown(context)}; it must be a"
            " list of the same length, or one text for all."
        )
    return [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]


def checked_row(row: Any, number: int) -> dict[str, str]:
    """The question, its context and the name of both for error messages.

    Args:
        row: an input with question and context, and perhaps `id`.
        number: its place among the inputs, from 1 on.

    Raises:
        UserError: it is no such input, or a text of it is empty or no text.
    """
    if not isinstance(row, Mapping):
        raise UserError(
            f"Input {number} is {shown(row)}, but must be a dict with question and context."
        )
    identifier = str(row.get("id", number))
    checked = {"id": identifier}
    for name in ("question", "context"):
        value = row.get(name)
        if not isinstance(value, str):
            raise UserError(f"question {identifier}: {name} is {shown(value)}, but must be a text.")
        if not value.strip():
            raise UserError(f"question {identifier}: {name} is empty.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise UserError(
                f"question {identifier}: {name} has half of a surrogate pair, which is no character."
            )
        checked[name] = value
    return checked


def shown(value: Any) -> str:
    """The kind of a value, as a sentence names it."""
    if value is None:
        return "missing"
    size = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"a {type(value).__name__}{size}"


def check_count(name: str, value: Any) -> None:
    """Refuse an option that must be a number of at least 1.

    Raises:
        UserError: names the option.
    """
    if type(value) is not int or value < 1:  # True is an int, too
        raise UserError(f"{name} is {value!r}, but must be an integer of at least 1.")
