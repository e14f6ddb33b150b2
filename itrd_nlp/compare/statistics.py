"""The mean over seeds, and the interval of a difference between two methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_DRAWS_AT_ONCE = 4_000_000  # 32 MB each for the draws and their counts


@dataclass(frozen=True)
class Difference:
    """A mean difference, its 95% interval and the two-sided p-value of a mean of 0."""

    mean: float
    low: float
    high: float
    p_value: float


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1); the latter is NaN for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (len(values) - 1))


def paired_bootstrap(
    differences: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Difference]:
    """Paired bootstrap over questions (Efron and Tibshirani 1993; for NLP: Koehn, EMNLP 2004).

    Questions are drawn with replacement, the same for all rows. The interval is from the 2.5th to the 97.5th percentile
    of the resampled means. The p-value is twice the share of resampled means on the far side of 0, with one added to
    both counts so that it is never 0.

    Args:
        differences: ``(methods, questions)``: score of the method minus that of the reference, question by question.
        resamples: number of draws.
        seed: seed of the draws.

    Returns:
        One for each row. It judges these trained models, so the chance of the seeds is not in it.

    Example:
        >>> paired_bootstrap(np.ones((1, 50)))
        [Difference(mean=1.0, low=1.0, high=1.0, p_value=0.0001999800019998)]
    """
    methods, questions = differences.shape
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, methods))
    at_once = max(1, _DRAWS_AT_ONCE // questions)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = generator.integers(questions, size=(rows, questions))
        drawn += questions * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * questions).reshape(rows, questions)
        means[start : start + rows] = counts @ differences.T / questions
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    tail = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    p_values = np.minimum(1.0, 2 * (tail + 1) / (resamples + 1))
    columns = (differences.mean(axis=1), low, high, p_values)
    return [Difference(*(float(x) for x in row)) for row in zip(*columns, strict=True)]
