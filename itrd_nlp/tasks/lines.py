"""JSON lines of a file or a pipe, one at a time: the one reader and the one writer of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from tqdm.auto import tqdm

from itrd_nlp.errors import UserError
from itrd_nlp.files import open_file, parse_json, replacing, writing

Row = dict[str, Any]
"""The fields of an example by their names."""
TABLES = {".csv": ",", ".tsv": "\t"}
"""Ending of a table to what separates its cells."""
CONLL = (".conll", ".iob", ".iob2", ".bio", ".txt")
"""Endings of files of tokens with their tags."""


class Line(NamedTuple):
    """One example.

    Attributes:
        where: the place of the line, for error messages, such as `questions.jsonl:3`.
        row: the object of the line.
    """

    where: str
    row: Row


Refuse = Callable[[UserError], None]
"""Takes the sentence about an example that cannot be used. The reader then goes on with the next."""


NAMED = 10
"""So many examples that cannot be used are named by a warning; the others are counted."""


def stop(error: UserError) -> None:
    """A `Refuse` that lets nothing pass."""
    raise error


def named_file(
    args: Any, split: Literal["train", "validation"], *, needs: str = "a file of JSON lines"
) -> str:
    """The file or data set of a split.

    Args:
        args: the arguments of the data, with ``train_file`` and ``validation_file``.
        split: the split.
        needs: what the task reads, for the sentence. Default: JSON lines.

    Raises:
        UserError: none is named.
    """
    name = args.train_file if split == "train" else args.validation_file
    if name is None:
        needed = "training" if split == "train" else "evaluation"
        raise UserError(f"{split}_file is not set, but {needed} needs {needs}.")
    return str(name)


def is_cut(lines: Iterable[Line], most: int | None) -> bool:
    """Whether a source has more examples than are read of it.

    Args:
        lines: the source, from its beginning. The first ones were read before, so none of them is wrong.
        most: how many are read at most; None: all.
    """
    if most is None:
        return False
    try:
        return next(itertools.islice(lines, most, None), None) is not None
    except UserError:  # nobody reads the line that is wrong
        return True


def has_more(path: str | Path, most: int | None) -> bool:
    """Whether a file of JSON lines has more than the first ones, which were read. See `is_cut`."""
    return is_cut(read_lines(path, needs="the fields of its task"), most)


def write_rows(
    files: Mapping[Path, Iterable[dict[str, Any]]], totals: Mapping[Path, int] | None = None
) -> None:
    """Write files with one JSON object in each line, all of them or none, behind a bar of progress; print how many.

    The files that are there are replaced when the last row of the last file is made.

    Args:
        files: each file and its objects.
        totals: number of steps of the bar of a file; it may be more than there are rows. Default: unknown.

    Raises:
        UserError: a file cannot be written, or would be empty.
    """
    counts = dict.fromkeys(files, 0)
    with contextlib.ExitStack() as stack:
        for path, rows in files.items():
            stack.enter_context(writing(path))
            file = stack.enter_context(replacing(path))
            for row in tqdm(rows, desc=path.name, total=(totals or {}).get(path)):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts[path] += 1
            if not counts[path]:
                raise UserError(f"{path} would be empty: no row of its source makes one.")
    for path, count in counts.items():
        print(f"{path}: {count} rows")


def read_lines(source: str | Path, *, needs: str, refuse: Refuse = stop) -> Iterator[Line]:
    """Read a file with one JSON object in each line. Empty lines are skipped.

    A line may begin with a byte order mark, as some editors write it. Its texts may hold half of a surrogate pair:
    who uses a field looks at it by `is_text`, and names it.

    Args:
        source: a file, or ``-`` for stdin.
        needs: the keys of an object, for the sentence about a line that is none.
        refuse: takes the sentence about a line that is no object, when it is its turn. Default: it is raised.

    Raises:
        UserError: the file cannot be read (at once).
    """
    if str(source) == "-":
        if sys.stdin is None:
            raise UserError("the standard input is closed, but - names it as the source.")
        return _lines(sys.stdin.buffer, "stdin", needs, refuse)
    if not os.path.lexists(source):
        raise UserError(f"{source}: there is no such file.")
    return _lines(open_file(source), str(source), needs, refuse)


def text_or_file(source: str | None, texts: Mapping[str, str | None]) -> Iterator[Line] | None:
    """The only line, whose texts stand in the command; None where a file is to be read.

    Args:
        source: the file, or None.
        texts: ``text``, and further fields of the line. Those that are None are left out.

    Raises:
        UserError: there are both, or neither.
    """
    if (texts["text"] is None) == (source is None):
        raise UserError("give either --text or --input.")
    if source is not None:
        return None
    return iter([Line("--text", {name: text for name, text in texts.items() if text is not None})])


def is_text(value: Any) -> bool:
    """Whether a value from JSON is text that a tokenizer can read, which half of a surrogate pair is not."""
    return isinstance(value, str) and (
        value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)
    )


def is_filled(value: Any) -> bool:
    """Whether a value from JSON is text that is not blank. See `is_text`."""
    return is_text(value) and bool(value.strip())


def check_text(row: Row, name: str, where: str) -> None:
    """Refuse a field that is no text.

    Raises:
        UserError: names the line and the field.
    """
    if not is_filled(row.get(name)):
        raise UserError(
            f'{where}: "{name}" is {row.get(name)!r}, but must be a string that is not empty.'
        )


def finite(value: Any) -> float | None:
    """The finite number that a value from JSON is, None where it is none.

    JSON has whole numbers that no float holds, and Python reads ``NaN`` and ``Infinity``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def ending_of(source: str | Path) -> str:
    """The ending of the name of a file in lower case, such as ``.csv``, by which its form is known."""
    return Path(source).suffix.lower()


def _lines(file: BinaryIO, name: str, needs: str, refuse: Refuse) -> Iterator[Line]:
    with file:
        number = 0
        while True:
            try:
                line = file.readline()
            except OSError as error:
                raise UserError(f"{name} cannot be read: {error.strerror}.") from None
            if not line:
                return
            number += 1
            try:
                row = _object(line, f"{name}:{number}", needs)
            except UserError as error:
                refuse(error)
                continue
            if row is not None:
                yield Line(f"{name}:{number}", row)


def _object(line: bytes, where: str, needs: str) -> dict[str, Any] | None:
    """The object of a line, None where it is empty."""
    try:
        text = line.decode("utf-8-sig")
        if not text.strip():
            return None
        row = parse_json(text, halves=True)
    except UnicodeDecodeError:
        raise UserError(f"{where}: the line is not UTF-8 text.") from None
    except ValueError as error:
        raise UserError(f"{where}: the line is not JSON ({error}).") from None
    if not isinstance(row, dict):
        kind = "null" if row is None else f"a {type(row).__name__}"
        raise UserError(f"{where}: the line is {kind}, but must be an object with {needs}.")
    return row
