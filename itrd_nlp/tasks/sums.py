"""Metrics as functions of sums over the rows, and what each row adds to a metric that is no mean.

A comparison resamples rows, so it needs one number for each of them, whose mean is the metric. A mean has the scores of
the rows. Any other metric, such as a correlation, has the influence of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


class Sums(NamedTuple):
    """A metric of some rows.

    Attributes:
        rows: ``(rows, k)``, what each row adds to the k sums.
        value: from ``(..., k)`` sums to ``(...)`` values of the metric, 1 for 100 percent.
    """

    rows: Numbers
    value: Callable[[Numbers], Numbers]

    @property
    def whole(self) -> float:
        """The metric of all rows."""
        return float(self.value(self.rows.sum(axis=0)))

    def by_row(self) -> Numbers:
        """The metric plus the influence of each row, ``(rows,)``. See `influences`."""
        return influences(self.whole, self.value(self.rows.sum(axis=0) - self.rows))


def influences(whole: float, without: Numbers) -> Numbers:
    """A number for each row, whose mean is the metric: the metric plus the influence of the row.

    The influence comes from the jackknife: ``(n - 1)`` times what the metric loses without the row, less the mean of
    this over all rows (Efron and Tibshirani 1993, sections 11.5 and 20.4). Resampling these numbers is resampling the
    rows, to first order.

    Args:
        whole: the metric of all rows.
        without: ``(rows,)``, the metric of all rows but one.
    """
    if len(without) == 1:
        return np.array([whole])
    found: Numbers = whole + (len(without) - 1) * (without.mean() - without)
    return found


def numbers_of(answers: Mapping[str, Any], count: int) -> Numbers:
    """The numbers with which rows are answered, ``(rows,)``, for a correlation.

    A row without an answer has the mean of the others, which takes no side. Pearson's correlation comes nearer to 0 by
    it. Spearman's may change either way.

    Args:
        answers: number of a row, from 0 on, to a number.
        count: number of the rows.
    """
    found = [answers.get(str(i)) for i in range(count)]
    known = [float(one) for one in found if one is not None]
    mean = float(np.mean(known)) if known else 0.0
    return np.array([mean if one is None else float(one) for one in found])


def ratio(part: Numbers, whole: Numbers) -> Numbers:
    """The share of a part, 0 where the whole is 0."""
    found: Numbers = np.divide(part, whole, out=np.zeros_like(whole, dtype=float), where=whole > 0)
    return found


def pearson(true: Numbers, found: Numbers) -> Sums:
    """Pearson's correlation of ``(rows,)`` numbers; 0 where all numbers of one side are equal."""
    x, y = (one - one.mean() for one in (true, found))  # no cancellation in the sums below
    x, y = (one / (np.abs(one).max() or 1) for one in (x, y))
    return Sums(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1), _correlation)


def spearman(true: Numbers, found: Numbers) -> float:
    """Spearman's correlation of ``(rows,)`` numbers: Pearson's of the ranks; equal numbers have their mean rank."""
    return pearson(ranks(true), ranks(found)).whole


def spearman_by_row(true: Numbers, found: Numbers) -> Numbers:
    """Spearman's correlation plus the influence of each row, ``(rows,)``. See `influences`.

    Without one row the ranks above it fall by 1, and the ranks of its equals by 1/2.
    """
    of_sides = ranks(true), ranks(found)
    without = np.empty(len(true))
    for i in range(len(true)):
        x, y = (
            np.delete(rank - (one > one[i]) - 0.5 * (one == one[i]), i)
            for rank, one in zip(of_sides, (true, found), strict=True)
        )
        without[i] = pearson(x, y).whole if len(x) else 0.0
    return influences(spearman(true, found), without)


def ranks(values: Numbers) -> Numbers:
    """The ranks from 1 on, ``(rows,)``; equal values have the mean of their ranks."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # slow to import

    found: Numbers = rankdata(np.asarray(values, dtype=np.float64))
    return found


def _correlation(sums: Numbers) -> Numbers:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.maximum((n * xx - x * x) * (n * yy - y * y), 0)
    # The spread of equal numbers is 0 but for rounding.
    return ratio(n * xy - x * y, np.where(spread > 1e-18 * n**4, np.sqrt(spread), 0))
