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
    found = paired_bootstrap(np.full((1, 30), 2.5), resamples=999)
    assert (found.mean, found.low, found.high) == (2.5, 2.5, 2.5)
    assert found.p_value == pytest.approx(2 / 1000)


def test_no_difference_has_p_value_1() -> None:
    found = paired_bootstrap(np.zeros((1, 30)), resamples=100)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_one_question_of_two_is_a_coin() -> None:
    found = paired_bootstrap(np.array([[1.0, -1.0]]), resamples=4000)
    assert (found.mean, found.low, found.high) == (0, -1, 1)
    assert found.p_value == pytest.approx(1, abs=0.05)


def test_many_questions_give_the_interval_and_the_p_value_of_a_normal_mean() -> None:
    values = np.random.default_rng(3).normal(0.05, 1.0, size=(1, 2000))
    found = paired_bootstrap(values)
    mean = float(values.mean())
    error = float(values.std()) / math.sqrt(2000)
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.06 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.06 * error)
    normal = 1 - math.erf(abs(mean) / error / math.sqrt(2))
    assert found.p_value == pytest.approx(normal, abs=0.01)


def test_the_same_as_loops_over_resamples_seeds_and_articles() -> None:
    articles = [[0.0, 10.0], [-20.0], [50.0, 0.0, 30.0], [-5.0, 10.0]]
    of_seeds = [0.0, 6.0, -3.0]
    draw = random.Random(0)
    means = []
    for _ in range(20000):
        drawn = [draw.choice(articles) for _ in range(3)]
        trained = [draw.choice(of_seeds) for _ in range(2)]
        values = [value + seed for article in drawn for value in article for seed in trained]
        means.append(sum(values) / len(values))
    flat = np.array([value for article in articles for value in article])
    sources = np.repeat([7, 3, 9, 1], [len(article) for article in articles])
    found = paired_bootstrap(flat + np.array(of_seeds)[:, None], sources, resamples=20000)
    cuts = statistics.quantiles(means, n=40)
    assert found.mean == pytest.approx(flat.mean() + 1)
    assert found.low == pytest.approx(cuts[0], abs=1.0)
    assert found.high == pytest.approx(cuts[-1], abs=1.0)
    below = sum(mean <= 0 for mean in means) / len(means)
    assert found.p_value == pytest.approx(2 * below, abs=0.02)


def test_questions_of_one_article_are_one_piece_of_evidence() -> None:
    """40 articles whose 25 questions agree: the interval is that of 40 numbers, not of 1,000."""
    of_articles = np.random.default_rng(5).normal(0.0, 1.0, size=40)
    found = paired_bootstrap(np.repeat(of_articles, 25)[None], np.repeat(np.arange(40), 25))
    alone = paired_bootstrap(of_articles[None])
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    each = paired_bootstrap(np.repeat(of_articles, 25)[None])
    assert found.high - found.low > 4 * (each.high - each.low)


def test_one_article_alone_says_nothing_about_articles_so_its_questions_are_drawn() -> None:
    values = np.random.default_rng(0).normal(0.1, 1.0, size=(2, 200))
    assert paired_bootstrap(values, np.zeros(200, np.int32)) == paired_bootstrap(values)


@pytest.mark.parametrize(
    ("seeds", "of_seeds", "of_both", "least", "most"),
    [
        *[(3, 0.5, 3, 0.93, 0.995), (3, 1, 3, 0.9, 0.96), (2, 0.5, 3, 0.93, 0.995)],
        (2, 1, 0, 0.7, 0.85),  # too narrow, as the docstring says
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    seeds: int, of_seeds: float, of_both: float, least: float, most: float
) -> None:
    """Differences with a chance of the seeds, of the articles and of both; the truth is 0.

    Drawn with three of three seeds, or with questions alone, the interval would hold the truth far less often.
    """
    generator = np.random.default_rng(0)
    held, by_questions, trials = 0, 0, 300
    for _ in range(trials):
        shape = (seeds, 40)
        chance = generator.normal(0, of_seeds, (seeds, 1)) + generator.normal(0, 2, (1, 40))
        values = np.repeat(chance + generator.normal(0, of_both, shape), 10, axis=1)
        found = paired_bootstrap(values, np.repeat(np.arange(40), 10), resamples=400)
        held += found.low <= 0 <= found.high
        alone = paired_bootstrap(values.mean(axis=0)[None], resamples=400)
        by_questions += alone.low <= 0 <= alone.high
    assert least <= held / trials <= most
    assert by_questions / trials < 0.5


def test_the_interval_does_not_depend_on_how_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(0.1, 1.0, size=(3, 200))
    at_once = paired_bootstrap(values, resamples=500)
    monkeypatch.setattr(ours, "_DRAWS_AT_ONCE", 1000)
    assert paired_bootstrap(values, resamples=500) == at_once


def test_the_sign_of_a_difference_turns_everything_round() -> None:
    values = np.random.default_rng(1).normal(0.2, 1.0, size=(1, 100))
    up, down = paired_bootstrap(values), paired_bootstrap(-values)
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
    scores = question_scores(answers, rows)
    f1, exact_match = scores["f1"], scores["exact_match"]
    assert f1 == pytest.approx([2 / 3, 2 / 3, 1, 0])
    assert exact_match.tolist() == [0, 0, 1, 0]
    official = score(answers, {row["id"]: row["answers"]["text"] for row in rows})
    assert 100 * f1.mean() == pytest.approx(official["f1"])
    assert 100 * exact_match.mean() == pytest.approx(official["exact_match"])
