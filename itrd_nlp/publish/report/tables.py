"""Tables and figures as the page of a report takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

ABSENT = "n/a"


class Cell(NamedTuple):
    """A cell of a table: its text and, for a number, the value by which the table is sorted."""

    text: str
    value: float | None = None


@dataclass
class Table:
    """A table that can be sorted by each of its columns; the first one names the rows."""

    caption: str
    head: list[str]
    rows: list[list[Cell]]

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers alone, as far as they are known."""
        cells = [row[column] for row in self.rows]
        return any(cell.value is not None for cell in cells) and all(
            cell.value is not None or cell.text == ABSENT for cell in cells
        )


@dataclass
class Figure:
    """A chart, or several of one kind, with a title and a note."""

    title: str
    svg: Markup
    note: str = ""


def number(value: float | None, shown: str) -> Cell:
    """The cell of a number that may be unknown.

    Args:
        value: the number.
        shown: a format for it.
    """
    return Cell(ABSENT) if value is None else Cell(shown.format(value), value)
