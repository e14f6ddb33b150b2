"""A folder that is not that of a run, or a file of it that is damaged: one sentence."""

import json
import shutil

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.jobs.report import write_report


def change(path, *keys, value):
    """Replace a value in a JSON file, or remove it where the new one is None."""
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "keys", "value", "expected"),
    [
        ("results", ["f1"], None, "results.json: f1 is missing"),
        ("results", ["f1"], "high", "results.json: f1 is 'high': it should be a valid number"),
        ("results", ["exact_match"], 101, "exact_match is '101': it should be less than or equal"),
        ("results", ["teacher", "parameters"], "x", "teacher.parameters is 'x'"),
        ("results", ["layer_pairs"], ["1-2"], "layer_pairs.0 is '1-2'"),
        ("analysis/history", [3, "step"], None, "history.json: 3.step is missing"),
        ("analysis/similarity", ["after", "cka", 1, 2], 1.5, "after.cka.1.2 is '1.5'"),
        (
            "analysis/similarity",
            ["after", "cka", 1],
            [0.5],
            "rows of a matrix must be equally long",
        ),
        ("analysis/breakdown", ["student", "question_type"], None, "question_type is missing"),
        (
            "analysis/breakdown",
            ["student", "question_type", "what", "f1"],
            None,
            "other scores than",
        ),
        ("analysis/breakdown", ["student", "question_type", "what", "f1"], "x", "what.f1 is 'x'"),
        ("analysis/breakdown", ["student", "question_type", "what", "f1"], 101, "what.f1 is '101'"),
        ("analysis/breakdown", ["student", "question_type", "what", "f1"], -101, "f1 is '-101'"),
        ("analysis/disagreements", ["examples", 0, "context"], 5, "examples.0.context is '5'"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(make_run, file, keys, value, expected):
    folder = make_run()
    change(folder / f"{file}.json", *keys, value=value)
    with pytest.raises(UserError) as caught:
        write_report(folder)
    assert expected in str(caught.value)
    assert str(folder / f"{file}.json") in str(caught.value)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "\x00\xff"])
def test_a_file_that_is_damaged_is_named(make_run, content):
    folder = make_run()
    (folder / "results.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"results\.json: "):
        write_report(folder)


def test_a_folder_without_results_is_refused(make_run, tmp_path):
    with pytest.raises(UserError, match="absent is no folder"):
        write_report(tmp_path / "absent")
    folder = make_run()
    (folder / "results.json").unlink()
    with pytest.raises(UserError, match=r"my_student holds no results\.json"):
        write_report(folder)


def test_a_report_before_stays_as_it_was_where_a_new_one_fails(make_run):
    folder = make_run(similarity=None)
    report = write_report(folder)
    before = report.read_bytes()
    (folder / "analysis" / "history.json").write_text("[1")
    with pytest.raises(UserError):
        write_report(folder)
    assert report.read_bytes() == before


def test_losses_that_are_no_number_do_not_prevent_a_report(make_run):
    folder = make_run(similarity=None)
    change(folder / "analysis" / "history.json", 3, "task", value=float("nan"))
    change(folder / "analysis" / "history.json", 4, "kd", value=float("inf"))
    assert "Task loss" in write_report(folder).read_text()


def test_the_same_folder_gives_the_same_bytes_wherever_it_is(make_run, tmp_path):
    folder = make_run(similarity=None)
    first = write_report(folder).read_bytes()
    other = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, other)
    (other / "report.html").unlink()
    assert write_report(other).read_bytes() == first
