"""Answers of classifiers in groups, by row, and beside those of a teacher, against sums written out here."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.analysis import breakdown, check_answers, disagreements
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.classification.judge import RowsJudge, named_answers
from itrd_nlp.tasks.classification.measures import row_scores, score
from itrd_nlp.tasks.classification.task import Classification

TEXTS = [
    {"text": "bonn", "label": "city"},
    {"text": "rhine", "label": "river"},
    {"text": "basel", "label": "city"},
]
TOKENS = [
    {"tokens": ["the", "rhine", "past", "bonn"], "labels": [None, "RIVER", "O", "CITY"]},
    {"tokens": ["basel"], "labels": ["CITY"]},
    {"tokens": ["the"], "labels": [None]},
]


def test_texts_are_scored_one_by_one_and_together():
    answers = {"0": "city", "1": "city", "2": "city"}
    assert row_scores("accuracy", TEXTS, answers) == pytest.approx([1, 0, 1])
    assert score("accuracy", TEXTS, answers) == pytest.approx(100 * 2 / 3)
    assert score("f1", TEXTS, answers) == pytest.approx(100 * (2 * 2 / (2 * 2 + 1) + 0) / 2)
    assert score("accuracy", TEXTS, {"0": "city", "2": "city"}) == pytest.approx(200 / 3)


def test_tokens_that_were_not_read_are_not_judged_and_a_missing_row_is_wrong():
    answers = {"0": ["RIVER", "O", "O"], "1": ["CITY"], "2": []}
    assert score("accuracy", TOKENS, answers) == pytest.approx(75)
    cut = {"0": ["RIVER", None, None], "1": ["O"], "2": []}
    assert score("accuracy", TOKENS, cut) == pytest.approx(50)
    assert score("f1", TOKENS, cut) == pytest.approx(100 * 2 * 1 / (1 + 2))
    assert score("accuracy", TOKENS, {"0": ["RIVER", "O", "CITY"]}) == pytest.approx(75)


def test_the_answers_of_a_judge_hold_none_for_each_token_that_is_not_read():
    # Row 0: its second judged word has no position, as one of which the tokenizer makes nothing.
    places = [[2, None, 3], [1], []]
    answer = partial(named_answers, names=["CITY", "O", "RIVER"], judged=places)
    judge = RowsJudge(TOKENS, answer, ["accuracy", "f1"], None)
    found = np.array([[1, 1, 2, 2, 1], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    scores = judge(EvalPrediction(predictions=found, label_ids=None))
    assert judge.predictions == {"0": ["RIVER", None, "RIVER"], "1": ["CITY"], "2": []}
    assert scores["accuracy"] == pytest.approx(100 * 2 / 3)


def test_groups_are_the_true_labels():
    found = breakdown({"0": "city", "1": "city", "2": "city"}, TEXTS)
    assert found == {
        "city": {"questions": 2, "accuracy": 100, "f1": 100 * 2 * 2 / (2 + 3)},
        "river": {"questions": 1, "accuracy": 0, "f1": 0},
    }
    found = breakdown({"0": ["RIVER", "O", "O"], "1": ["CITY"], "2": []}, TOKENS)
    assert found["CITY"] == {"questions": 2, "accuracy": 50, "f1": pytest.approx(100 * 2 / 3)}
    assert found["O"] == {"questions": 1, "accuracy": 100, "f1": pytest.approx(100 * 2 / 3)}


def test_disagreements_say_who_is_right():
    teacher = {"0": "city", "1": "city", "2": "city"}
    student = {"0": "river", "1": "river", "2": "city"}
    found = disagreements(student, teacher, TEXTS)
    counts = {k: v for k, v in found.items() if k != "examples"}
    assert counts == {
        "questions": 3,
        "teacher_right": 1,
        "student_right": 1,
        "both_right": 0,
        "neither_right": 0,
    }
    first, second = found["examples"]
    assert (first["question"], first["context"]) == ("bonn", "")
    assert first["references"] == [{"text": "city"}]
    assert first["teacher"] == {"text": "city", "exact_match": True}
    assert first["student"] == {"text": "river", "exact_match": False}
    assert second["student"]["exact_match"] is True


def test_disagreements_over_tokens_name_the_words_that_are_something():
    teacher = {"0": ["RIVER", "O", "CITY"], "1": ["CITY"], "2": []}
    student = {"0": ["O", "O", "O"], "1": [None], "2": []}
    found = disagreements(student, teacher, TOKENS)
    assert (found["teacher_right"], found["both_right"]) == (1, 1)  # what is not read is not wrong
    first = found["examples"][0]
    assert first["question"] == "the rhine past bonn"
    assert first["references"] == [{"text": "rhine/RIVER bonn/CITY"}]
    assert first["teacher"]["text"] == "rhine/RIVER bonn/CITY"
    assert first["student"]["text"] == "O everywhere"


def test_disagreements_over_small_numbers_show_numbers_that_differ():
    rows = [{"text": str(i), "label": i * 1e-5} for i in range(3)]
    answers = {str(i): row["label"] for i, row in enumerate(rows)}
    (shown,) = disagreements({**answers, "1": 1.5e-5}, answers, rows)["examples"]
    assert [shown[who]["text"] for who in ("teacher", "student")] == ["1e-05", "1.5e-05"]


@pytest.fixture
def score_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def score_file(rows, answers):
        (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        args = TextArguments(validation_file="dev.jsonl")
        return Classification.score_file(args, "answers.json")

    return score_file


def test_a_file_of_answers_has_labels_as_the_data_may_have_them(score_file):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": True}, {"text": "c", "label": "x"}]
    found = score_file(rows, {"0": 1, "1": "true", "9": "x"})
    assert found["accuracy"] == pytest.approx(200 / 3)
    assert (found["rows"], found["missing"]) == (3, 1)
    assert score_file(TOKENS, {"0": ["RIVER", "O", "CITY"], "1": ["CITY"], "2": []}) == {
        "accuracy": 100,
        "f1": 100,
        "rows": 3,
        "missing": 0,
    }


@pytest.mark.parametrize(
    ("rows", "answers", "sentence"),
    [
        (TEXTS, {"7": "city"}, "none of the 1 answers has the number of one of the 3 rows"),
        (TEXTS, {"1": ["city"]}, r"the answer to row 1 is \['city'\], but must be a label"),
        (TEXTS, {"1": 1.5}, "the answer to row 1 is 1.5, but must be a label"),
        (TOKENS, {"1": "CITY"}, "row 1 is 'CITY', but must be a list of 1, with a label for each"),
        (TOKENS, {"0": ["O"] * 4}, "row 0 is a list of 4, but must be a list of 3, with a label"),
        (TOKENS, {"0": ["O"]}, "row 0 is a list of 1, but must be a list of 3, with a label"),
        (TOKENS, {"0": [{}, "O", "O"]}, "the answer to row 0 has something that is no label"),
    ],
)
def test_answers_that_are_no_labels_of_the_rows_are_refused(score_file, rows, answers, sentence):
    with pytest.raises(UserError, match=rf"answers\.json: .*{sentence}"):
        score_file(rows, answers)


@pytest.mark.parametrize("answer", [10**400, float("nan"), float("inf")])
def test_an_answer_to_a_regression_that_is_no_finite_number_is_refused(answer):
    rows = [{"text": "a", "label": 1.0}]
    with pytest.raises(UserError, match=r"the answer to row 0 is .*, but must be a finite number"):
        check_answers({"0": answer}, rows, "answers.json")
