"""Where data come from: a file or the Hub, and the source of each example, such as an article."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import CONLL, TABLES, Row, ending_of, is_text


def is_file(source: str | Path) -> bool:
    """Whether a source is a file, or a data set of the Hub or in a folder."""
    path = Path(source)
    if path.is_dir():
        return False
    named = ending_of(path) in (".json", ".jsonl", *TABLES, *CONLL) or str(source).count("/") != 1
    return isinstance(source, Path) or path.exists() or named or path.parent.exists()


def source_of(row: Row, where: str) -> str | None:
    """Where a row comes from, None where it does not say so.

    Raises:
        UserError: names the line, whose source is no string.
    """
    source = row.get("source")
    if source is not None and not is_text(source):
        raise UserError(f'{where}: "source" is {source!r}, but must be a string.')
    return source


def sources_of(rows: Sequence[Row]) -> NDArray[Any] | None:
    """The number of each row's source, None where no row names one. A row without a source is one by itself."""
    if all(row["source"] is None for row in rows):
        return None
    numbers: dict[Any, int] = {}
    names = [i if row["source"] is None else row["source"] for i, row in enumerate(rows)]
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])
