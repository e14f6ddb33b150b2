"""Rankings and their metrics, against scikit-learn and sentence-transformers' evaluator."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from sklearn.metrics import ndcg_score

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.reranking.metrics import mrr, ndcg, ranking

GENERATOR = np.random.default_rng(0)
CASES = [
    (GENERATOR.permutation(count).astype(float), GENERATOR.integers(0, grades, count))
    for count in (2, 3, 10, 11, 40)
    for grades in (2, 4)
]


def order(scores: np.ndarray) -> list[int]:
    return ranking(scores, [f"passage {i}" for i in range(len(scores))])


@pytest.mark.parametrize(("scores", "labels"), CASES)
@pytest.mark.parametrize("k", [1, 10, 100])
def test_ndcg_is_that_of_scikit_learn(scores: np.ndarray, labels: np.ndarray, k: int) -> None:
    found = ndcg(order(scores), labels.tolist(), k)
    assert found == pytest.approx(ndcg_score([labels], [scores], k=k))


class Known:
    """A cross-encoder whose scores are known."""

    model_card_data = Mock()

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def predict(self, pairs: list[list[str]], **_: object) -> np.ndarray:
        return np.array([self.scores[int(passage)] for _, passage in pairs])


@pytest.mark.parametrize(("scores", "labels"), CASES)
def test_both_metrics_are_those_of_the_evaluator_of_sentence_transformers(
    scores: np.ndarray, labels: np.ndarray
) -> None:
    relevant = (labels > 0).astype(float).tolist()
    if len(set(relevant)) == 1:  # the evaluator passes such a query over
        return
    names = [str(i) for i in range(len(labels))]
    sample = {
        "query": "q",
        "positive": [name for name, yes in zip(names, relevant, strict=True) if yes],
        "negative": [name for name, yes in zip(names, relevant, strict=True) if not yes],
    }
    evaluator = CrossEncoderRerankingEvaluator([sample], write_csv=False)  # type: ignore[list-item]
    expected = evaluator(Known(scores))  # type: ignore[arg-type]
    assert mrr(order(scores), relevant) == pytest.approx(expected["mrr@10"])
    assert ndcg(order(scores), relevant) == pytest.approx(expected["ndcg@10"])


def test_a_query_without_a_relevant_passage_has_0_and_one_with_nothing_else_100() -> None:
    assert (ndcg([0, 1], [0, 0]), mrr([0, 1], [0, 0])) == (0, 0)
    assert (ndcg([1, 0], [1, 1]), mrr([1, 0], [1, 1])) == (1, 1)


def test_a_passage_behind_the_tenth_does_not_count() -> None:
    labels = [0.0] * 10 + [1.0]
    assert (ndcg(list(range(11)), labels), mrr(list(range(11)), labels)) == (0, 0)


def test_the_order_of_equal_scores_depends_on_the_passages_and_not_on_their_places() -> None:
    passages = [f"passage {i}" for i in range(8)]
    found = [passages[i] for i in ranking(np.zeros(8), passages)]
    back = passages[::-1]
    assert [back[i] for i in ranking(np.zeros(8), back)] == found
    assert found != passages and found != back


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="gives 1 of 2 passages a score that is no finite number"):
        ranking(np.array([0.0, bad]), ["a", "b"])
