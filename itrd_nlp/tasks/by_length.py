"""Answer many rows in batches of like length, and give the answers in the order of the rows.

A batch is padded to its longest row, and a model computes the padding, too. Rows of like length need little of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from itrd_nlp.tasks.lines import Line

Row = TypeVar("Row")
Answer = TypeVar("Answer")

BATCHES_AHEAD = 16


def answer_by_length(
    rows: Iterable[Row],
    length: Callable[[Row], int],
    answer: Callable[[list[Row]], Iterable[Answer]],
    batch_size: int,
) -> Iterator[Answer]:
    """Answer a stream in constant memory.

    Args:
        rows: the stream. It may end in an error.
        length: of a row, in any unit.
        answer: answers a list of rows in its order. It gets the longest row first, so that memory grows no further.
        batch_size: number of rows in a batch. With 1 each row is answered at once. Else 16 batches are read before the
            first of them is answered.

    Yields:
        The answers, in the order of the rows.

    Raises:
        Exception: that of the stream, after the answers to all rows before it.
    """
    ahead = 1 if batch_size == 1 else BATCHES_AHEAD * batch_size
    for group in _groups(rows, ahead):
        order = sorted(range(len(group)), key=lambda place: -length(group[place]))
        found = dict(zip(order, answer([group[place] for place in order]), strict=True))
        yield from (found[place] for place in range(len(group)))


def in_batches(rows: list[Row], size: int) -> Iterator[list[Row]]:
    """Lists of `size` rows, the last one shorter."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def length_of_line(line: Line) -> int:
    """The characters of all texts of a line, or the number of its tokens."""
    return sum(len(value) for value in line.row.values() if isinstance(value, str | list))


def _groups(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Lists of `size` rows, the last one shorter. Rows before an error make a list, too."""
    group: list[Row] = []
    failed: Exception | None = None
    source = iter(rows)
    while failed is None:
        try:
            group.append(next(source))
        except StopIteration:
            break
        except Exception as error:
            failed = error  # of any kind, such as a connection that is lost; raised below
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
    if failed is not None:
        raise failed
