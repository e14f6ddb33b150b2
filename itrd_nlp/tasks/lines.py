"""JSON lines from a file or a pipe, one at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from itrd_nlp.errors import UserError
from itrd_nlp.files import open_file, parse_json


class Line(NamedTuple):
    """One example.

    Attributes:
        where: the place of the line, for error messages, such as `questions.jsonl:3`.
        row: the object of the line.
    """

    where: str
    row: dict[str, Any]


def read_lines(source: str | Path, *, needs: str) -> Iterator[Line]:
    """Read a file with one JSON object in each line. Empty lines are skipped.

    Args:
        source: a file, or ``-`` for stdin.
        needs: the keys of an object, for the sentence about a line that is none.

    Raises:
        UserError: the file cannot be read (at once), or a line is no object (when it is its turn).
    """
    if str(source) == "-":
        if sys.stdin is None:
            raise UserError("the standard input is closed, but - names it as the source.")
        return _lines(sys.stdin.buffer, "stdin", needs)
    if not os.path.lexists(source):
        raise UserError(f"{source}: there is no such file.")
    return _lines(open_file(source), str(source), needs)


def _lines(file: BinaryIO, name: str, needs: str) -> Iterator[Line]:
    with file:
        for number, line in enumerate(file, start=1):
            where = f"{name}:{number}"
            try:
                text = line.decode("utf-8-sig")  # some editors put a byte order mark in front
                row = parse_json(text, halves=True) if text.strip() else None
            except UnicodeDecodeError:
                raise UserError(f"{where}: the line is not UTF-8 text.") from None
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: the line is not JSON ({error}).") from None
            if not text.strip():
                continue
            if not isinstance(row, dict):
                raise UserError(
                    f"{where}: the line is a {type(row).__name__}, but must be an object with {needs}."
                )
            yield Line(where, row)
