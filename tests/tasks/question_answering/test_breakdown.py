"""EM and F1 by type of question and length of answer."""

import pytest

from itrd_nlp.tasks.question_answering import read_squad
from itrd_nlp.tasks.question_answering.breakdown import (
    ANSWER_LENGTHS,
    QUESTION_TYPES,
    answer_length,
    breakdown,
    question_type,
)
from itrd_nlp.tasks.question_answering.scoring import score


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who wrote it?", "who"),
        ("WHOSE idea was it?", "who"),
        ("To whom did it go?", "who"),
        ("What's the name?", "what"),
        ("In what year did it end?", "what"),
        ("when did it end", "when"),
        ("Where is it and who built it?", "where"),
        ("Why?", "why"),
        ("On which day did it end?", "which"),
        ("How many are there?", "how many/much"),
        ("At the end, how much was it?", "how many/much"),
        ("How do many do it?", "how"),
        ("Somehow it grew; by how far?", "how"),
        ("The show was named?", "other"),
        ("", "other"),
    ],
)
def test_the_type_is_the_first_question_word(question, expected):
    assert question_type(question) == expected
    assert expected in QUESTION_TYPES


@pytest.mark.parametrize(
    ("words", "expected"),
    [(1, "1"), (2, "2"), (3, "3-4"), (4, "3-4"), (5, "5-8"), (8, "5-8"), (9, "9+"), (40, "9+")],
)
def test_the_length_is_a_number_of_words(words, expected):
    assert answer_length(" ".join(["word"] * words)) == expected
    assert expected in ANSWER_LENGTHS


@pytest.fixture
def rows():
    def row(identifier, question, *answers):
        return {"id": identifier, "question": question, "answers": {"text": list(answers)}}

    return [
        row("1", "Who came?", "Ada Lovelace", "Lovelace"),
        row("2", "Who left?", "Alan Turing"),
        row("3", "When was it?", "in the year of 1840", "1840"),
    ]


def test_groups_hold_their_own_questions_in_percent(rows):
    result = breakdown({"1": "Lovelace", "2": "Turing", "3": "1840"}, rows)
    assert list(result["question_type"]) == ["who", "when"]
    who = result["question_type"]["who"]
    assert who["questions"] == 2
    assert who["exact_match"] == pytest.approx(50)
    assert who["f1"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    # of the first reference
    assert {k: v["questions"] for k, v in result["answer_length"].items()} == {"2": 2, "5-8": 1}


def test_a_question_without_prediction_counts_0(rows):
    result = breakdown({"1": "Lovelace"}, rows)["question_type"]
    assert result["who"]["exact_match"] == 50
    assert result["when"]["f1"] == 0


def test_the_weighted_mean_of_the_groups_is_the_score_of_all(write_squad):
    examples = read_squad(write_squad(articles=6, questions=6), split="validation")
    questions = [f"{word}?" for word in ("Who", "What", "How many", "Say", "Why", "Where")]
    rows = [row | {"question": questions[i % 6]} for i, row in enumerate(examples)]
    # a word too few or too many here, right there
    answers = {
        row["id"]: row["answers"]["text"][0] + (" and more" if i % 3 else "")
        for i, row in enumerate(rows)
        if i % 7
    }
    expected = score(answers, {row["id"]: row["answers"]["text"] for row in rows})
    assert 0 < expected["exact_match"] < expected["f1"] < 100
    for groups in breakdown(answers, rows).values():
        assert len(groups) > 2
        assert sum(group["questions"] for group in groups.values()) == len(rows)
        for name, value in expected.items():
            total = sum(group["questions"] * group[name] for group in groups.values())
            assert total / len(rows) == pytest.approx(value)
