"""The mean over seeds, and the interval of a difference between two methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    differences: NDArray[np.float64],
    sources: NDArray[np.integer[Any]] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Bootstrap of a mean difference over the seeds of training and the sources of the examples.

    Questions about one article are alike, and so are the answers of one trained student. Seeds and articles are
    therefore drawn with replacement, each by itself, and a drawn article brings all its questions (Efron and Tibshirani
    1993, section 8; for models: Koehn, EMNLP 2004). Of n seeds n - 1 are drawn, and of n sources n - 1, so that the
    variance of the resampled means is that of the mean and no smaller, though n may be three (Rao and Wu, JASA 1988).
    The interval is from the 2.5th to the 97.5th percentile. The p-value is twice the share of resampled means on the
    far side of 0, with one added to both counts so that it is never 0.

    Args:
        differences: ``(seeds, examples)``: score of the method minus that of the reference with the same seed, example
            by example. With one seed the chance of the seeds is not in the interval. With two it is too narrow where
            seeds differ more than sources do: it then held the truth in 4 of 5 simulated comparisons.
        sources: ``(examples,)``: number of the source of each example, such as its article. None, or one source alone:
            each example is a source.
        resamples: number of draws.
        seed: seed of the draws.

    Example:
        >>> paired_bootstrap(np.ones((3, 50)))
        Difference(mean=1.0, low=1.0, high=1.0, p_value=0.0001999800019998)
    """
    seeds, examples = differences.shape
    numbers = np.arange(examples)
    if sources is not None and len(np.unique(sources)) > 1:
        numbers = np.unique(sources, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    sums = np.stack([np.bincount(numbers, weights=row) for row in differences])
    of_sources, of_seeds = (np.random.default_rng([seed, stream]) for stream in range(2))
    means = np.empty(resamples)
    at_once = max(1, _DRAWS_AT_ONCE // len(sizes))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = _times_drawn(of_sources, rows, len(sizes))
        trained = _times_drawn(of_seeds, rows, seeds)
        totals = ((trained @ sums) * drawn).sum(axis=1)
        means[start : start + rows] = totals / (drawn @ sizes) / trained.sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    tail = min((means <= 0).sum(), (means >= 0).sum())
    p_value = min(1.0, 2 * (tail + 1) / (resamples + 1))
    return Difference(float(differences.mean()), float(low), float(high), float(p_value))


def _times_drawn(
    generator: np.random.Generator, resamples: int, things: int
) -> NDArray[np.float64]:
    """``(resamples, things)``: how often each was drawn, in ``things - 1`` draws, or in one for one thing."""
    drawn = generator.integers(things, size=(resamples, max(1, things - 1)))
    drawn += things * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * things)
    return counts.reshape(resamples, things).astype(np.float64)
