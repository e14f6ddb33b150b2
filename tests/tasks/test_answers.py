"""Answers of two forms of a model are the same where they say the same."""

from __future__ import annotations

from typing import Any

import pytest

from itrd_nlp.tasks.answers import share_of_same


@pytest.mark.parametrize(
    ("answer", "same", "other"),
    [
        ("the Alps", "the Alps", "The Alps"),  # a question
        (["a", "b"], ["a", "b"], ["b"]),  # several labels
        ([3, 1, 2], [3, 1, 2], [1, 3, 2]),  # passages
        ([["PER", 0, 2]], [["PER", 0, 2]], [["PER", 0, 3]]),  # names
        (0.912345, 0.912355, 0.915),  # a cosine
        (51234.0, 51250.0, 51400.0),  # a price
        ([["sea", "sea", 0.123456]], [["sea", "sea", 0.987654]], [["sea", "lake", 0.123456]]),
        ([], [], [["sea", "sea", 0.5]]),
    ],
)
def test_what_is_said_counts_and_not_the_last_digit(answer: Any, same: Any, other: Any) -> None:
    first = {"0": answer, "1": answer}
    assert share_of_same(first, {"0": same, "1": same}) == 100
    assert share_of_same(first, {"0": same, "1": other}) == 50
    assert share_of_same(first, {"0": other, "1": other}) == 0


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_numbers_are_the_same_within_a_thousandth_of_their_range_whatever_their_unit(
    unit: float,
) -> None:
    first = {str(i): unit * one for i, one in enumerate((1.0, 2.0, 3.0))}
    for off, same in ((0.0015, 100), (0.0025, 0)):
        assert share_of_same(first, {name: one + unit * off for name, one in first.items()}) == same
    assert share_of_same({"0": 1e-4 * unit}, {"0": 9e-4 * unit}) == 0
