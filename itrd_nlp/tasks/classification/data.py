"""Labelled texts or tokens from files with a JSON object a line, and what is wrong with them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError

# It was declared here, and users import it from here.
from itrd_nlp.tasks.classification.arguments import TextArguments as TextArguments
from itrd_nlp.tasks.lines import is_text, read_lines

Row = dict[str, Any]


def read_rows(path: str | Path, max_samples: int | None = None) -> list[Row]:
    """Read labelled texts or labelled tokens.

    Args:
        path: a file with a JSON object a line, all of one kind, see `TextArguments`.
        max_samples: read this many at most.

    Returns:
        Rows with ``text``, ``label`` and perhaps ``text_pair``, or with ``tokens`` and ``labels``. Integers and
        booleans among the labels are their text in JSON, such as ``1`` or ``true``.

    Raises:
        UserError: names the file, the line and the field that is missing or wrong.
    """
    rows: list[Row] = []
    lines = read_lines(path, needs='"text" and "label", or "tokens" and "labels"')
    for where, row in itertools.islice(lines, max_samples):
        rows.append(_row(row, where))
        if is_tokens(rows) != ("tokens" in rows[-1]):
            raise UserError(
                f"{where} is of another kind than the lines before; a file holds texts with a "
                '"label" or "tokens" with "labels", not both.'
            )
    if not rows:
        raise UserError(f"{path} holds no row.")
    return rows


def is_tokens(rows: Sequence[Row]) -> bool:
    """Whether the rows have a label a token."""
    return "tokens" in rows[0]


def label_names(rows: Sequence[Row]) -> list[str]:
    """The labels that occur, in alphabetical order."""
    if is_tokens(rows):
        return sorted({label for row in rows for label in row["labels"] if label is not None})
    return sorted({row["label"] for row in rows})


def label_text(label: Any) -> Any:
    """A label that JSON holds as an integer, true or false as its text there; anything else as it is."""
    return json.dumps(label) if isinstance(label, int) else label  # a bool is an int, too


def is_words(values: Any) -> bool:
    """Whether a value from JSON is a list of texts."""
    return isinstance(values, list) and all(map(is_text, values))


def _row(row: Row, where: str) -> Row:
    if "tokens" not in row:
        return _text_row(row, where)
    tokens, labels = row["tokens"], row.get("labels")
    if not is_words(tokens) or not tokens:
        raise UserError(f'{where}: "tokens" must be a list of words, at least one.')
    if not isinstance(labels, list) or len(labels) != len(tokens):
        raise UserError(
            f'{where}: "labels" must be a list with one label for each of {len(tokens)} tokens.'
        )
    labels = [label_text(label) for label in labels]
    for label in labels:
        if label is not None and not (is_text(label) and label.strip()):
            raise UserError(
                f'{where}: {label!r} is among "labels", but each must be a string that is not empty, an integer, '
                "true or false, or null where the token is not judged."
            )
    return {"tokens": tokens, "labels": labels}


def _text_row(row: Row, where: str) -> Row:
    label = label_text(row.get("label"))
    for name, value, more in (
        ("text", row.get("text"), ""),
        ("label", label, ", an integer, true or false"),
    ):
        if not (is_text(value) and value.strip()):
            raise UserError(
                f'{where}: "{name}" is {value!r}, but must be a string that is not empty{more}.'
            )
    kept = {"text": row["text"], "label": label}
    if row.get("text_pair") is not None:
        if not is_text(row["text_pair"]):
            raise UserError(f'{where}: "text_pair" is {row["text_pair"]!r}, but must be a string.')
        kept["text_pair"] = row["text_pair"]
    return kept
