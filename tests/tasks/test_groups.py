"""Examples in groups, and their scores."""

from __future__ import annotations

import numpy as np
import pytest

from itrd_nlp.tasks.groups import by_words, grouped, means_of


def test_texts_are_grouped_by_their_words() -> None:
    texts = [" ".join(["w"] * count) for count in (3, 25, 26, 300)]
    found = by_words(
        texts,
        (25, 100, 200),
        lambda numbers: {"accuracy": 10.0 * len(numbers)} if 3 not in numbers else {},
    )
    assert found == {
        "1 to 25": {"questions": 2, "accuracy": 20.0},
        "26 to 100": {"questions": 1, "accuracy": 10.0},
    }
    assert list(by_words(["a b", "a"], (1,), lambda numbers: {"n": 1.0})) == ["1 to 1", "2 or more"]


def test_groups_have_the_means_of_their_examples_in_the_order_of_the_names() -> None:
    score = means_of({"recall": np.array([1.0, 0.0, 0.5])})
    found = grouped(["x", "y", "x"], ["z", "y", "x"], score)
    assert list(found) == ["y", "x"]
    assert found["x"] == {"questions": 2, "recall": pytest.approx(75)}
