"""The metrics of a task on some data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Measures(NamedTuple):
    """The metrics of some data.

    Attributes:
        headings: name of a metric to its heading in tables.
        main: the metric by which methods are compared.
    """

    headings: Mapping[str, str]
    main: str
