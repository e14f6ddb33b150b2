"""Intervals and p-values, held against closed forms and a bootstrap that was written out in loops."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest

from itrd_nlp.compare import statistics as ours
from itrd_nlp.compare.statistics import mean_and_deviation, paired_bootstrap
from itrd_nlp.tasks.question_answering.scoring import question_scores, score


def test_equal_differences_leave_no_doubt() -> None:
    (found,) = paired_bootstrap(np.full((1, 30), 2.5), resamples=999)
    assert (found.mean, found.low, found.high) == (2.5, 2.5, 2.5)
    assert found.p_value == pytest.approx(2 / 1000)


def test_no_difference_has_p_value_1() -> None:
    (found,) = paired_bootstrap(np.zeros((1, 30)), resamples=100)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_one_question_of_two_is_a_coin() -> None:
    """Resampled means of (1, -1): -1, 0, 1 with probabilities 1/4, 1/2, 1/4; so p is capped at 1."""
    (found,) = paired_bootstrap(np.array([[1.0, -1.0]]), resamples=4000)
    assert (found.mean, found.low, found.high, found.p_value) == (0, -1, 1, 1)


def test_many_questions_give_the_interval_and_the_p_value_of_a_normal_mean() -> None:
    values = np.random.default_rng(3).normal(0.05, 1.0, size=(1, 2000))
    (found,) = paired_bootstrap(values)
    mean = float(values.mean())
    error = float(values.std()) / math.sqrt(2000)
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.06 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.06 * error)
    normal = 1 - math.erf(abs(mean) / error / math.sqrt(2))
    assert found.p_value == pytest.approx(normal, abs=0.01)


def test_the_same_as_loops_over_resamples_and_questions() -> None:
    values = [0.0, 10.0, -20.0, 50.0, 0.0, 30.0, -5.0, 10.0]
    draw = random.Random(0)
    means = sorted(
        sum(values[draw.randrange(len(values))] for _ in values) / len(values) for _ in range(20000)
    )
    (found,) = paired_bootstrap(np.array([values]), resamples=20000)
    cuts = statistics.quantiles(means, n=40)
    assert found.low == pytest.approx(cuts[0], abs=1.0)  # means are multiples of 0.625
    assert found.high == pytest.approx(cuts[-1], abs=1.0)
    below = sum(mean <= 0 for mean in means) / len(means)
    assert found.p_value == pytest.approx(2 * below, abs=0.02)


def test_a_method_has_the_same_interval_whoever_else_is_in_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(0.1, 1.0, size=(3, 200))
    together = paired_bootstrap(values, resamples=500)
    alone = [paired_bootstrap(values[i : i + 1], resamples=500)[0] for i in range(3)]
    for a, b in zip(together, alone, strict=True):
        assert (a.mean, a.low, a.high, a.p_value) == pytest.approx(
            (b.mean, b.low, b.high, b.p_value)
        )
    monkeypatch.setattr(ours, "_DRAWS_AT_ONCE", 1000)  # nor how many are drawn at once
    assert [d.p_value for d in paired_bootstrap(values, resamples=500)] == [
        d.p_value for d in together
    ]


def test_the_sign_of_a_difference_turns_everything_round() -> None:
    values = np.random.default_rng(1).normal(0.2, 1.0, size=(1, 100))
    (up,), (down,) = paired_bootstrap(values), paired_bootstrap(-values)
    assert (down.mean, down.low, down.high) == pytest.approx((-up.mean, -up.high, -up.low))
    assert down.p_value == up.p_value


def test_the_deviation_over_seeds_is_that_of_a_sample() -> None:
    assert mean_and_deviation([1.0, 2.0, 4.0]) == pytest.approx(
        (7 / 3, statistics.stdev([1.0, 2.0, 4.0]))
    )
    mean, deviation = mean_and_deviation([3.0])
    assert mean == 3 and math.isnan(deviation)


def test_scores_of_questions_average_to_the_official_score() -> None:
    rows = [
        {"id": "a", "answers": {"text": ["the Eiffel tower", "tower"]}},
        {"id": "b", "answers": {"text": ["in 1889"]}},
        {"id": "c", "answers": {"text": ["Paris"]}},
        {"id": "missing", "answers": {"text": ["Rome"]}},
    ]
    answers = {"a": "Eiffel", "b": "1889", "c": "paris."}
    f1, exact_match = question_scores(answers, rows)
    assert f1 == pytest.approx([2 / 3, 2 / 3, 1, 0])
    assert exact_match.tolist() == [0, 0, 1, 0]
    official = score(answers, {row["id"]: row["answers"]["text"] for row in rows})
    assert 100 * f1.mean() == pytest.approx(official["f1"])
    assert 100 * exact_match.mean() == pytest.approx(official["exact_match"])
