"""Recall of the passages of queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.errors import UserError

KS = (1, 10)
_AT_ONCE = 256


def nearest(
    queries: NDArray[np.floating], passages: NDArray[np.floating], k: int = max(KS)
) -> list[list[int]]:
    """The numbers of the nearest passages of each query, the nearest first.

    Args:
        queries: vectors ``(n, d)`` of length 1.
        passages: vectors ``(m, d)`` of length 1.
        k: so many, or all where there are fewer.

    Raises:
        UserError: a vector has something that is no number.
    """
    check_vectors(queries)
    check_vectors(passages)
    found: list[list[int]] = []
    for begin in range(0, len(queries), _AT_ONCE):
        scores = queries[begin : begin + _AT_ONCE] @ passages.T
        found += np.argsort(-scores, axis=1, kind="stable")[:, :k].tolist()
    return found


def check_vectors(vectors: NDArray[np.floating]) -> None:
    """Refuse vectors that have no similarity.

    Raises:
        UserError: counts them.
    """
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise UserError(
            f"the model gives {bad} of {len(vectors)} texts a vector with something that is no finite number; its "
            "weights are not those of a trained model."
        )


def recall(found: Sequence[int], relevant: Sequence[int], k: int) -> float:
    """The share of the relevant passages among the first ``k`` that were found; 0 where none is relevant."""
    return len(set(found[:k]) & set(relevant)) / len(set(relevant)) if relevant else 0.0
