"""Tables with a header (CSV and TSV), and columns of tokens and tags (CoNLL), a row at a time."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

from itrd_nlp.errors import UserError
from itrd_nlp.files import open_file, read_text
from itrd_nlp.tasks.classification.entities import as_iob2, is_tag
from itrd_nlp.tasks.lines import TABLES, Line, Refuse, ending_of, stop

DOCUMENT = "-DOCSTART-"
_LONGEST = 2**31 - 1  # characters of a cell; csv takes 131,072 of them if nobody says otherwise


def read_table(path: str | Path, *, refuse: Refuse = stop) -> tuple[list[str], Iterator[Line]]:
    """The header of a table and its rows.

    Cells may stand in double quotes, which may hold line breaks, and a quote in them is doubled (RFC 4180). A byte
    order mark and empty lines are passed over, and spaces around a cell are no part of it.

    Args:
        path: of a file in UTF-8 whose ending is in `TABLES`.
        refuse: takes the sentence about a row that has more or fewer cells than the header. Default: it is raised.

    Returns:
        The names of the columns, and each row as a mapping from them to texts. One row is in memory at a time.

    Raises:
        UserError: the file cannot be read, its header has a name twice or an empty one (at once); or a quote is not
            closed, so that nobody knows where the next row begins, or a later part is not UTF-8 (at its turn).
    """
    rows = _rows(path)
    _, header = next(rows, ("", []))
    for name in header:
        if not name or header.count(name) > 1:
            said = f"the column {name!r} twice" if name else "a column without a name"
            raise UserError(
                f"{path}: the header has {said}, but each column needs a name of its own."
            )
    return header, _mapped(rows, header, refuse)


def _lines(path: str | Path, newline: str) -> Iterator[str]:
    """The lines of a file in UTF-8 with their ends, one at a time; `newline` is as in `open`."""
    with open_file(path) as file:
        try:
            yield from io.TextIOWrapper(file, "utf-8-sig", newline=newline)
        except UnicodeDecodeError:
            read_text(path)  # says which byte of the whole file it is
            raise
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def _rows(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Each row of a table, with its place, the line where it ends."""
    cells = csv.reader(_lines(path, newline=""), delimiter=TABLES[ending_of(path)], strict=True)
    while True:
        begin = cells.line_num + 1  # an open quote takes all lines to the end of the file
        usual = csv.field_size_limit(_LONGEST)  # one for the process, which others may need
        try:
            row = next(cells, None)
        except csv.Error as error:
            raise UserError(
                f"{path}:{begin}: the line is no row of a table ({error}); a cell with a quote stands in "
                "quotes, and each quote in it is doubled."
            ) from None
        finally:
            csv.field_size_limit(usual)
        if row is None:
            return
        if any(cell.strip() for cell in row):
            yield f"{path}:{cells.line_num}", [cell.strip() for cell in row]


def _mapped(
    rows: Iterator[tuple[str, list[str]]], header: list[str], refuse: Refuse
) -> Iterator[Line]:
    for where, row in rows:
        if len(row) != len(header):
            refuse(
                UserError(
                    f"{where}: the row has {len(row)} cells, but the header has {len(header)}; a cell with a "
                    "separator stands in quotes."
                )
            )
            continue
        yield Line(where, dict(zip(header, row, strict=True)))


def read_conll(path: str | Path, *, refuse: Refuse = stop) -> Iterator[Line]:
    """The sentences of a file with a token a line, as CoNLL-2002 and CoNLL-2003 have it.

    The first column is the token and the last one its tag. Columns are separated by tabs, or by spaces in a line
    without a tab. An empty line ends a sentence. Lines of `DOCUMENT` and comments are passed over, see `_is_comment`.
    Tags of IOB1 become IOB2.

    Args:
        path: of a file in UTF-8.
        refuse: takes the sentence about the first line of a sentence that has one column, an empty token or tag, or
            another number of columns than the lines before. Default: it is raised.

    Yields:
        Rows with ``tokens`` and ``labels``, each with the place of its first line.

    Raises:
        UserError: the file cannot be read.
    """
    tokens: list[str] = []
    tags: list[str] = []
    where, columns, damaged, of_entities = "", 0, False, True
    lines = itertools.chain(_lines(path, newline="\n"), [""])
    for number, line in enumerate((line.removesuffix("\n") for line in lines), start=1):
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        if _is_comment(line, cells, columns, of_entities):
            continue
        if not any(cells) or line.startswith(DOCUMENT):
            if tokens and not damaged:
                yield Line(where, {"tokens": tokens, "labels": as_iob2(tags)})
            tokens, tags, damaged = [], [], False
            continue
        if damaged:  # the rest of the sentence
            continue
        try:
            _check_columns(cells, columns, f"{path}:{number}")
        except UserError as error:
            refuse(error)
            damaged = True
            continue
        columns = len(cells)
        of_entities = of_entities and is_tag(cells[-1])
        where = where if tokens else f"{path}:{number}"
        tokens.append(cells[0])
        tags.append(cells[-1])


def _check_columns(cells: list[str], columns: int, where: str) -> None:
    """Refuse a line without a token or a tag, or with another number of columns than the lines before.

    Raises:
        UserError: see there.
    """
    if not all((cells[0], cells[-1])):
        raise UserError(
            f"{where}: the line must have a token first and its tag last, but one is empty."
        )
    if len(cells) < 2 or (columns and len(cells) != columns):
        raise UserError(
            f"{where}: the line has {len(cells)} columns, but must have {max(columns, 2)}: a token first and its tag "
            "last, separated by tabs or by spaces."
        )


def _is_comment(line: str, cells: list[str], columns: int, of_entities: bool) -> bool:
    """Whether a line that begins with ``#`` is no token.

    It has other columns than the lines before. Or a space follows the ``#``, and the line has no tag of entities where
    all tags before are such tags. In a file with tabs a space follows the ``#`` of each comment.

    Args:
        line: the line.
        cells: its columns.
        columns: number of columns of the lines before; 0 where there is none.
        of_entities: whether all tags before are tags of entities, as they are where there is none.
    """
    if not line.startswith("# " if "\t" in line else "#"):
        return False
    if columns and len(cells) != columns:
        return True
    return line.startswith("# ") and of_entities and not is_tag(cells[-1])
