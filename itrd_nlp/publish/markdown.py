"""Markdown in which no value becomes markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def one_line(value: Any) -> str:
    """A value as text of one line."""
    return " ".join(str(value).split())


def as_text(value: Any) -> str:
    """A value as text of one line in which nothing is markup, also not in a table."""
    return re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", one_line(value))


def as_code(value: Any) -> str:
    """A value for a code span, in which no escape would count."""
    return one_line(value).replace("`", "'")


def as_number(value: Any, form: str) -> str:
    """A number in a form such as ``.2f``, nothing for one that is not known."""
    return "" if value is None else format(value, form)


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table. Its first column is text and its others are numbers."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def fence(content: str, language: str) -> str:
    """A code block whose fence is longer than every run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{content}\n{ticks}"
