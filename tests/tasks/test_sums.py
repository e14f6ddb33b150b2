"""Correlations against scipy, and the numbers of the rows against a bootstrap that computes each metric anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from itrd_nlp.tasks.sums import (
    Numbers,
    Sums,
    influences,
    numbers_of,
    pearson,
    ratio,
    spearman,
    spearman_by_row,
)


def two(count: int, decimals: int) -> tuple[Numbers, Numbers]:
    generator = np.random.default_rng(0)
    true = generator.normal(size=count)
    return true.round(decimals), (true + generator.normal(size=count)).round(decimals)


@pytest.mark.parametrize("decimals", [8, 0])  # without decimals many numbers are equal
def test_correlations_are_those_of_scipy(decimals: int) -> None:
    true, found = two(50, decimals)
    assert pearson(true, found).whole == pytest.approx(pearsonr(true, found).statistic)
    assert spearman(true, found) == pytest.approx(spearmanr(true, found).statistic)


def test_a_row_without_an_answer_has_the_mean_of_the_others() -> None:
    assert numbers_of({"0": 1, "2": 4.0, "3": None}, 4) == pytest.approx([1, 2.5, 4, 2.5])
    assert numbers_of({}, 2) == pytest.approx([0, 0])


@pytest.mark.parametrize("decimals", [8, 0])
def test_the_numbers_of_the_rows_come_from_the_correlations_of_scipy_without_each_row(
    decimals: int,
) -> None:
    true, found = two(40, decimals)
    for by_row, library in (
        (pearson(true, found).by_row(), pearsonr),
        (spearman_by_row(true, found), spearmanr),
    ):
        without = [
            library(np.delete(true, i), np.delete(found, i)).statistic for i in range(len(true))
        ]
        whole = library(true, found).statistic
        expected = [whole + 39 * (np.mean(without) - one) for one in without]
        assert by_row == pytest.approx(np.array(expected))
        assert by_row.mean() == pytest.approx(whole)


def a_ratio(true: Numbers, found: Numbers) -> Sums:
    """The share of hits among all tokens, of texts of unlike length."""
    lengths = 1 + np.abs(true).round() * 5
    hits = np.minimum(lengths, np.abs(found).round())
    return Sums(np.stack([hits, lengths], axis=1), lambda s: ratio(s[..., 0], s[..., 1]))


@pytest.mark.parametrize(
    ("whole", "by_row"),
    [
        (spearman, spearman_by_row),
        (lambda *both: pearson(*both).whole, lambda *both: pearson(*both).by_row()),
        (lambda *both: a_ratio(*both).whole, lambda *both: a_ratio(*both).by_row()),
    ],
    ids=["spearman", "pearson", "ratio"],
)
def test_a_bootstrap_of_the_numbers_is_a_bootstrap_of_the_rows(
    whole: Callable[..., float], by_row: Callable[..., Numbers]
) -> None:
    true, found = two(300, 1)
    numbers = by_row(true, found)
    draws = np.random.default_rng(1).integers(300, size=(300, 300))
    anew = np.array([whole(true[draw], found[draw]) for draw in draws])
    linear = numbers[draws].mean(axis=1)
    assert linear.std() == pytest.approx(anew.std(), rel=0.1)
    assert np.corrcoef(linear, anew)[0, 1] > 0.98


def test_what_is_undefined_is_0() -> None:
    same, other = np.ones(3), np.arange(3.0)
    assert spearman(same, other) == pearson(other, same).whole == 0
    assert spearman_by_row(same, other).tolist() == [0, 0, 0]
    assert spearman_by_row(np.ones(1), np.ones(1)).tolist() == [0]
    assert influences(0.5, np.zeros(1)).tolist() == [0.5]
    assert ratio(np.ones(2), np.array([0.0, 4.0])).tolist() == [0, 0.25]
