"""EM and F1, held against the official definition written out a second time."""

from __future__ import annotations

import random
import re
import string

import pytest

from itrd_nlp.tasks.question_answering import exact_match, f1, normalize_answer, score


def official_words(text: str) -> list[str]:
    """Lower case, drop punctuation, drop words that are articles, split at white space."""
    letters = "".join(c for c in text.lower() if c not in string.punctuation)
    runs = re.split(r"(\W+)", letters)
    return "".join(" " if run in {"a", "an", "the"} else run for run in runs).split()


def official_f1(prediction: str, truth: str) -> float:
    predicted, left = official_words(prediction), official_words(truth)
    total, common = len(predicted) + len(left), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            common += 1
    return 2 * common / total if common else 0.0


PIECES = (
    *(
        "the",
        "The",
        "a",
        "an",
        "A.",
        "U.S.",
        "theatre",
        "banana",
        "don't",
        "well-known",
        "\u2013",
        "—",
    ),
    *(
        "Beyoncé",
        "BEYONCÉ",
        "東京",
        "“",
        "”",
        "1,000",
        "$5",
        "",
        "\n",
        "\t",
        "x" * 3,
        "a\u2013b",
        "İ",
    ),
    *("\u00a0", "a_b", "an/the"),
)


def test_numbers_are_those_of_the_official_definition() -> None:
    draw = random.Random(0)

    def text() -> str:
        return draw.choice(("", " ", "  ")).join(draw.choices(PIECES, k=draw.randint(0, 5)))

    predictions, references = {}, {}
    total_exact_match = total_f1 = 0.0
    for i in range(3000):
        prediction, truths = text(), [text() for _ in range(draw.randint(1, 3))]
        assert normalize_answer(prediction) == " ".join(official_words(prediction))
        for truth in truths:
            assert f1(prediction, truth) == pytest.approx(official_f1(prediction, truth), abs=1e-15)
        total_exact_match += any(official_words(prediction) == official_words(t) for t in truths)
        total_f1 += max(official_f1(prediction, truth) for truth in truths)
        predictions[str(i)], references[str(i)] = prediction, truths
    result = score(predictions, references)
    assert all(3 < value < 90 for value in result.values())
    assert result["exact_match"] == pytest.approx(100 * total_exact_match / 3000, abs=1e-10)
    assert result["f1"] == pytest.approx(100 * total_f1 / 3000, abs=1e-10)


@pytest.mark.parametrize(
    ("prediction", "truth", "em", "f"),
    [
        ("Denver Broncos", "denver broncos", 1, 1),
        ("The Denver Broncos.", "Denver  Broncos", 1, 1),
        ("U.S.", "US", 1, 1),
        ("well-known", "well known", 0, 0),  # the hyphen goes, no space comes
        ("theatre", "atre", 0, 0),  # articles are whole words
        ("an a the", "the", 1, 0),  # nothing left on both sides: equal, but no common word
        ("Beyoncé", "Beyonce", 0, 0),
        ("new york new york", "york", 0, 2 * (1 / 4) * 1 / (1 / 4 + 1)),
        ("york york", "york york city", 0, 2 * 1 * (2 / 3) / (1 + 2 / 3)),
        ("", "x", 0, 0),
    ],
)
def test_known_pairs(prediction: str, truth: str, em: float, f: float) -> None:
    assert exact_match(prediction, truth) == em
    assert f1(prediction, truth) == pytest.approx(f, abs=1e-12)


def test_the_best_true_answer_counts_for_each_number_on_its_own() -> None:
    references = {"1": ["x y", "y z w", "the"]}
    assert score({"1": "y z"}, references) == pytest.approx({"exact_match": 0, "f1": 80})
    assert score({"1": "a"}, references) == {"exact_match": 100, "f1": 0}


def test_a_missing_question_counts_zero_and_an_unknown_one_nothing() -> None:
    references = {"1": ["x"], "2": ["the"], "3": ["y"], "4": ["z"]}
    result = score({"1": "x", "5": "y"}, references)
    assert result == {"exact_match": 25.0, "f1": 25.0}


def test_no_reference_is_an_error() -> None:
    with pytest.raises(ValueError, match="no reference"):
        score({"1": "x"}, {})
