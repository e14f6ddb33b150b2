"""Queries with their passages from files with a JSON object a line, and what is wrong with them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import Row, check_text, finite, is_filled, read_lines
from itrd_nlp.tasks.sources import source_of

NEEDS = '"query" and "passages"'


def read_queries(
    path: str | Path, max_samples: int | None = None, *, labels: bool = True, scores: bool = False
) -> list[Row]:
    """Read queries with their passages.

    Args:
        path: a file with a JSON object a line, see `itrd_nlp.tasks.reranking.arguments.RankingArguments`.
        max_samples: read this many at most.
        labels: whether each line must have labels.
        scores: whether each line must have the scores of a teacher.

    Returns:
        Rows with ``query``, ``passages``, ``labels`` and ``scores`` (lists of floats or None) and ``source`` (or None).

    Raises:
        UserError: names the file, the line and the field that is missing or wrong.
    """
    rows = []
    for where, row in itertools.islice(read_lines(path, needs=NEEDS), max_samples):
        check_query(row, where)
        count = len(row["passages"])
        rows.append(
            {
                "query": row["query"],
                "passages": row["passages"],
                "labels": _numbers(row, "labels", count, where, needed=labels, least=0.0),
                "scores": _numbers(row, "scores", count, where, needed=scores),
                "source": source_of(row, where),
            }
        )
    if not rows:
        raise UserError(f"{path} holds no query.")
    return rows


def check_query(row: Row, where: str) -> None:
    """Refuse a line whose query and passages cannot be read.

    Raises:
        UserError: names the line and the field.
    """
    check_text(row, "query", where)
    passages = row.get("passages")
    if not isinstance(passages, list) or not passages:
        raise UserError(f'{where}: "passages" must be a list of strings, at least one.')
    for i, passage in enumerate(passages):
        if not is_filled(passage):
            raise UserError(
                f'{where}: number {i} (from 0 on) of "passages" is {str(passage)[:60]!r}, but must be a string that is '
                "not empty."
            )


def _numbers(
    row: Row, name: str, count: int, where: str, *, needed: bool, least: float = -math.inf
) -> list[float] | None:
    values = row.get(name)
    if values is None:
        if needed:
            raise UserError(
                f'{where}: "{name}" is missing, but must hold a number for each passage.'
            )
        return None
    if not isinstance(values, list) or len(values) != count:
        raise UserError(
            f'{where}: "{name}" must be a list with one number for each of {count} passages.'
        )
    bound = "" if least == -math.inf else f" of at least {least:g}"
    numbers = []
    for value in values:
        number = finite(int(value) if isinstance(value, bool) else value)
        if number is None or number < least:
            raise UserError(
                f'{where}: {value!r} is among "{name}", but each must be a finite number{bound}.'
            )
        numbers.append(number)
    return numbers


def chosen_passages(row: Row, most: int) -> Row:
    """A row with its passages with the largest labels, and then its first ones.

    Args:
        row: as `read_queries` returns it.
        most: number of passages.
    """
    count = len(row["passages"])
    if count <= most:
        return row
    labels = row["labels"] or [0.0] * count
    kept = sorted(sorted(range(count), key=lambda i: (-labels[i], i))[:most])
    lists = ("passages", "labels", "scores")
    return row | {name: row[name] and [row[name][i] for i in kept] for name in lists}
