"""nDCG@10 and MRR@10 of rankings, and how scores become a ranking."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.errors import UserError

K = 10


def ranking(scores: NDArray[np.floating], passages: Sequence[str]) -> list[int]:
    """The numbers of passages, the best first.

    Equal scores are put in an order that depends on the passages alone. That of the file would show which one is
    relevant, because many files name it first.

    Args:
        scores: ``(P,)``, the larger, the better.
        passages: their texts.

    Raises:
        UserError: a score is no number.
    """
    if not np.isfinite(scores).all():
        raise UserError(
            f"the model gives {int((~np.isfinite(scores)).sum())} of {len(scores)} passages a score that is no finite "
            "number, so they have no order; its weights are not those of a trained model."
        )
    keys = [(-float(s), zlib.crc32(p.encode())) for s, p in zip(scores, passages, strict=True)]
    return sorted(range(len(keys)), key=keys.__getitem__)


def ndcg(order: Sequence[int], labels: Sequence[float], k: int = K) -> float:
    """The normalised discounted cumulative gain of a ranking, from 0 to 1; 0 where no passage is relevant.

    The gain is the label and the discount is log2(1 + rank), as in Järvelin and Kekäläinen 2002 and
    `sklearn.metrics.ndcg_score`.

    Args:
        order: numbers of passages, the best first.
        labels: of all passages.
        k: the first so many count. There may be fewer.
    """
    best = _dcg(sorted(labels, reverse=True)[:k])
    return _dcg([labels[i] for i in order[:k]]) / best if best > 0 else 0.0


def mrr(order: Sequence[int], labels: Sequence[float], k: int = K) -> float:
    """One divided by the rank of the first passage with a label above 0; 0 where none is among the first ``k``."""
    ranks = [rank for rank, i in enumerate(order[:k], start=1) if labels[i] > 0]
    return 1 / ranks[0] if ranks else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(1 + rank) for rank, gain in enumerate(gains, start=1)))
