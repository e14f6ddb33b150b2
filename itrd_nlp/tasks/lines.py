"""JSON lines from a file or a pipe, one at a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from itrd_nlp.errors import UserError


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
        return _lines(sys.stdin.buffer, "stdin", needs)
    path = Path(source)
    try:
        return _lines(path.open("rb"), str(path), needs)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read ({error.strerror}).") from None


def _lines(file: BinaryIO, name: str, needs: str) -> Iterator[Line]:
    with file:
        for number, line in enumerate(file, start=1):
            where = f"{name}:{number}"
            try:
                text = line.decode("utf-8-sig")  # some editors put a byte order mark in front
                row = json.loads(text) if text.strip() else None
            except UnicodeDecodeError:
                raise UserError(f"{where}: the line is not UTF-8 text.") from None
            except RecursionError:
                raise UserError(
                    f"{where}: the line has too many lists and objects within each other."
                ) from None
            except ValueError as error:
                raise UserError(f"{where}: the line is not JSON ({error}).") from None
            if not text.strip():
                continue
            if not isinstance(row, dict):
                raise UserError(
                    f"{where}: the line is a {type(row).__name__}, but must be an object with {needs}."
                )
            yield Line(where, row)
