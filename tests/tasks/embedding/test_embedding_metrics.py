"""Recall, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.embedding.metrics import nearest, recall

GENERATOR = np.random.default_rng(0)


def test_the_nearest_passages_come_first() -> None:
    queries, passages = GENERATOR.normal(size=(300, 4)), GENERATOR.normal(size=(20, 4))
    found = nearest(queries, passages, 3)
    for query, numbers in zip(queries, found, strict=True):
        scores = passages @ query
        assert numbers == sorted(range(20), key=lambda i: -scores[i])[:3]


def test_fewer_passages_than_are_asked_for_are_all_found() -> None:
    assert [sorted(row) for row in nearest(np.eye(2), np.eye(2), 10)] == [[0, 1], [0, 1]]


def test_recall_is_the_share_of_the_relevant_passages() -> None:
    assert recall([4, 2, 7], [2, 9], 10) == 0.5
    assert recall([4, 2, 7], [2, 9], 1) == 0
    assert recall([4], [4], 1) == 1
    assert recall([4], [], 1) == 0


def test_vectors_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="gives 1 of 2 texts a vector with something that is no"):
        nearest(np.array([[1.0, 0.0], [np.nan, 0.0]]), np.eye(2))
