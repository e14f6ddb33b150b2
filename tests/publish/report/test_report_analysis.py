"""The files that a run leaves for its report."""

import json

import pytest

from itrd_nlp.tasks.question_answering.analysis import disagreements
from itrd_nlp.tasks.question_answering.scoring import score


def row(identifier, context="Ada met Alan in 1840.", answers=("Ada",)):
    return {
        "id": identifier,
        "question": f"Who {identifier}?",
        "context": context,
        "answers": {"text": list(answers), "answer_start": [context.index(a) for a in answers]},
    }


def test_answers_that_are_the_same_after_normalisation_do_not_disagree():
    rows = [row("1"), row("2")]
    result = disagreements({"1": "the Ada", "2": "Alan"}, {"1": "Ada.", "2": "Ada"}, rows)
    assert result["questions"] == 2
    assert [case["question"] for case in result["examples"]] == ["Who 2?"]


def test_it_is_counted_who_was_right():
    rows = [row("1"), row("2"), row("3", answers=("Ada", "Ada met Alan")), row("4")]
    student = {"1": "Alan", "2": "Ada", "3": "Ada met Alan"}
    teacher = {"1": "Ada", "2": "1840", "3": "Ada", "4": "1840"}
    result = disagreements(student, teacher, rows)
    names = ("teacher_right", "student_right", "both_right", "neither_right")
    assert [result[name] for name in names] == [1, 1, 1, 1]
    case = result["examples"][0]
    assert case["student"] == {"text": "Alan", "exact_match": False, "f1": 0}
    assert case["teacher"] == {"text": "Ada", "exact_match": True, "f1": 100}
    assert case["references"] == [{"text": "Ada", "start": 0}]
    assert result["examples"][3]["student"]["text"] == ""


@pytest.mark.parametrize(
    ("count", "shown"), [(0, 0), (1, 1), (19, 19), (20, 20), (21, 20), (977, 20)]
)
def test_twenty_are_shown_and_come_from_everywhere(count, shown):
    rows = [row(str(i)) for i in range(count)]
    result = disagreements({}, {str(i): "Ada" for i in range(count)}, rows)
    assert result["teacher_right"] == count
    chosen = [int(case["question"][4:-1]) for case in result["examples"]]
    assert len(set(chosen)) == shown
    assert chosen == sorted(chosen)
    if count > 20:
        assert chosen[0] < count / 20
        assert chosen[-1] >= count * 18 / 20


def test_the_files_hold_what_was_given(make_run):
    folder = make_run() / "analysis"
    names = ("history", "predictions", "teacher_predictions", "similarity")
    names += ("breakdown", "disagreements")
    content = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
    assert sorted(path.stem for path in folder.iterdir()) == sorted(names)
    assert len(content["predictions"]) == len(content["teacher_predictions"]) == 60
    assert content["history"][0]["corr_1:2"] == pytest.approx(5 * 2.718281828 ** (-1 / 6))
    assert content["similarity"]["after"]["tokens"] == 4096
    assert set(content["breakdown"]) == {"student", "teacher"}
    assert content["disagreements"]["questions"] == 60


def test_the_contexts_of_other_questions_are_not_copied(make_run):
    assert (make_run() / "analysis" / "disagreements.json").read_text().count("context") == 20


def test_what_is_not_given_is_not_left_over_from_before(make_run):
    folder = make_run()
    nothing = dict.fromkeys(("teacher_predictions", "history", "similarity"))
    make_run(examples=[row("1")], predictions={"1": "Ada"}, **nothing)
    assert sorted(path.name for path in (folder / "analysis").iterdir()) == [
        "breakdown.json",
        "predictions.json",
    ]
    groups = json.loads((folder / "analysis" / "breakdown.json").read_text())
    expected = {"questions": 1, **score({"1": "Ada"}, {"1": ["Ada"]})}
    assert groups == {
        "student": {"question_type": {"who": expected}, "answer_length": {"1": expected}}
    }
