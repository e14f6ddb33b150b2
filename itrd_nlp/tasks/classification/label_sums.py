"""Metrics of the counts of each label, without a table of all rows and labels: data may have thousands of labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from itrd_nlp.tasks.sums import Numbers, Sums, influences, ratio

_CELLS = 1 << 17  # of the table of some rows and all labels, 1 MB


class Marks(NamedTuple):
    """The labels of a row. A label may be there several times, as in a row of tokens.

    Attributes:
        right: the labels that are found rightly.
        found: the labels that are found.
        true: the true ones.
    """

    right: Collection[str]
    found: Collection[str]
    true: Collection[str]


class LabelSums(NamedTuple):
    """A metric of the counts of each label. It gives what `itrd_nlp.tasks.sums.Sums` gives.

    Attributes:
        rows: at least one.
        names: the labels that count.
        value: from ``(..., names, 3)`` counts, as `Marks` has them, to ``(...)`` values of the metric.
    """

    rows: Sequence[Marks]
    names: Sequence[str]
    value: Callable[[Numbers], Numbers]

    @property
    def whole(self) -> float:
        """The metric of all rows, 1 for 100 percent."""
        return float(self.value(self._total()))

    def by_row(self) -> Numbers:
        """The metric plus the influence of each row, ``(rows,)``. See `itrd_nlp.tasks.sums.influences`."""
        total = self._total()
        parts = [self.value(total - some) for some in self._counts()]
        return influences(float(self.value(total)), np.concatenate(parts))

    def _total(self) -> Numbers:
        places = self._places()
        total = np.zeros((len(places), 3))
        for row in self.rows:
            _add(row, places, total)
        return total

    def _counts(self) -> Iterator[Numbers]:
        """The counts of some rows after the other, each ``(some rows, names, 3)``."""
        places = self._places()
        size = max(1, _CELLS // (3 * len(places) or 1))
        for start in range(0, len(self.rows), size):
            some = self.rows[start : start + size]
            counts = np.zeros((len(some), len(places), 3))
            for row, of_row in zip(some, counts, strict=True):
                _add(row, places, of_row)
            yield counts

    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}


def _add(row: Marks, places: dict[str, int], counts: Numbers) -> None:
    """Add the labels of a row to ``(names, 3)`` counts."""
    for kind, names in enumerate(row):
        for name in names:
            if name in places:
                counts[places[name], kind] += 1


def macro_f1(rows: Sequence[Marks], names: Sequence[str]) -> LabelSums:
    """The mean F1 of the labels that occur or are found."""

    def value(counts: Numbers) -> Numbers:
        right, found, true = np.moveaxis(counts, -1, 0)
        return ratio(ratio(2 * right, found + true).sum(-1), (found + true > 0).sum(-1))

    return LabelSums(rows, names, value)


def micro_f1(rows: Sequence[Marks], names: Collection[str]) -> Sums:
    """The F1 of all labels together."""
    known = set(names)
    counts = [[sum(name in known for name in of_kind) for of_kind in row] for row in rows]
    return Sums(
        np.array(counts, dtype=float), lambda s: ratio(2 * s[..., 0], s[..., 1] + s[..., 2])
    )


def matthews(rows: Sequence[Marks], names: Sequence[str]) -> LabelSums:
    """Matthews' coefficient of several classes (Gorodkin 2004, eq. 8)."""

    def value(counts: Numbers) -> Numbers:
        right, found, true = np.moveaxis(counts, -1, 0)
        n = true.sum(-1)
        covariance = n * right.sum(-1) - (found * true).sum(-1)
        # A missing answer is a class of its own, which no row has.
        missing = n - found.sum(-1)
        spread = (n**2 - (found**2).sum(-1) - missing**2) * (n**2 - (true**2).sum(-1))
        return ratio(covariance, np.sqrt(np.maximum(spread, 0)))

    return LabelSums(rows, names, value)
