"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text


def print_table(
    title: str, columns: Sequence[tuple[str, JustifyMethod]], rows: Iterable[Sequence[str]]
) -> None:
    """Print a table. All of its texts are printed as they are.

    Rich reads a plain string as markup, so that a folder ``runs/[seed0]`` would lose a part of its name, and
    ``runs/[/b]`` would end in an error. A `Text` is not read.

    Args:
        title: text above the table.
        columns: heading of each column, and ``left`` or ``right`` for its cells.
        rows: the cells of each row, one a column.
    """
    table = Table(title=Text(title, style="table.title"), title_justify="left")
    for heading, justify in columns:
        table.add_column(Text(heading), justify=justify)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
