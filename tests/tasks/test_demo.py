"""The page without a browser: what it shows, and how the script takes its arguments."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli import main as command
from itrd_nlp.cli import process
from itrd_nlp.errors import UserError
from itrd_nlp.tasks import demo
from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline

CONTEXT = "The river Rhine flows past Basel"


@pytest.fixture(scope="module")
def qa(make_reader: Any) -> QuestionAnsweringPipeline:
    return QuestionAnsweringPipeline(*make_reader(CONTEXT.lower().split(), 2), device="cpu")


def test_each_model_highlights_its_answer_in_the_context(qa: QuestionAnsweringPipeline) -> None:
    found = qa(question="flows", context=CONTEXT)
    segments, facts, again, _ = demo.ask([qa, qa], "flows", CONTEXT)
    assert "".join(text for text, _ in segments) == CONTEXT
    assert [text for text, label in segments if label] == [found["answer"]]
    assert again == segments
    assert facts.startswith(f"score {found['score']:.2f}, ")
    assert facts.endswith(" ms")


def test_a_text_that_would_hold_the_page_is_refused(
    qa: QuestionAnsweringPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.ask([qa], "flows", "a" * demo.LONGEST_TEXT)
    monkeypatch.setattr(qa, "model", None)  # it is not asked
    long = "a" * (demo.LONGEST_TEXT + 1)
    for name, pair in (("context", ("flows", long)), ("question", (long, "flows"))):
        with pytest.raises(UserError, match=f"The {name} has 10,001 characters, but this page"):
            demo.ask([qa], *pair)


def test_a_question_that_is_too_long_for_the_model_is_a_sentence_on_the_page(
    qa: QuestionAnsweringPipeline,
) -> None:
    with pytest.raises(UserError, match=r"its 900 tokens leave room for 0 tokens"):
        demo.ask([qa], "flows " * 900, CONTEXT)


@pytest.mark.parametrize("teacher", [3, ["a"], {"a": 1}, True])
def test_a_recorded_teacher_that_is_no_text_is_a_sentence(teacher: Any, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"arguments": {"teacher": teacher}}))
    with pytest.raises(
        UserError, match=r"results\.json: teacher in arguments is a .*must be a text"
    ):
        demo.recorded_teacher(tmp_path)


@pytest.mark.parametrize("teacher", ["a\0b", "x" * 5000, "\ud800"])
def test_a_recorded_teacher_that_no_folder_can_be_is_none(teacher: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"arguments": {"teacher": teacher}}))
    if teacher == "\ud800":
        with pytest.raises(UserError, match="half of a character"):
            demo.recorded_teacher(tmp_path)
    else:
        assert demo.recorded_teacher(tmp_path) is None


@pytest.mark.parametrize(
    ("start", "end", "segments"),
    [
        (2, 3, [("ab", None), ("c", "answer"), ("de", None)]),
        (0, 5, [("abcde", "answer")]),
        (0, 1, [("a", "answer"), ("bcde", None)]),
        (0, 0, [("abcde", None)]),
    ],
)
def test_segments_make_up_the_context(start: int, end: int, segments: Any) -> None:
    assert demo.highlighted("abcde", start, end) == segments


def test_the_page_has_a_column_for_each_model_and_no_telemetry(
    qa: QuestionAnsweringPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    for models, labels in (
        ([qa], ["Student, 2 layers"]),
        ([qa, qa], ["Teacher, 2 layers", "Student, 2 layers"]),
    ):
        page = demo.build_demo(*models)
        components = page.get_config_file()["components"]
        shown = [c["props"]["label"] for c in components if c["type"] == "highlightedtext"]
        assert shown == labels
        assert page.analytics_enabled is False


@pytest.mark.parametrize("known", [0, 1, 2, None])
def test_the_page_starts_with_an_example_that_the_teacher_answers_rightly(
    known: int | None, qa: QuestionAnsweringPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def teacher(question: str, context: str) -> dict[str, Any]:
        knows = known is not None and question == demo.EXAMPLES[known][0]
        return {"answer": demo.ANSWERS[known].removeprefix("the ") if knows else "Basel"}

    monkeypatch.setattr(type(qa), "__call__", lambda self, **asked: teacher(**asked))
    components = demo.build_demo(qa, qa).get_config_file()["components"]
    filled = [c["props"].get("value") for c in components if c["type"] == "textbox"]
    assert filled == demo.EXAMPLES[known or 0]


def test_the_answers_of_the_examples_stand_in_their_contexts() -> None:
    for (_, context), answer in zip(demo.EXAMPLES, demo.ANSWERS, strict=True):
        assert answer in context


def test_without_gradio_the_extra_is_named(
    qa: QuestionAnsweringPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install itrd_nlp\[demo\]"):
        demo.build_demo(qa)


def test_the_teacher_is_the_recorded_one_if_it_is_still_there(tmp_path: Path) -> None:
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    student.mkdir()
    assert demo.recorded_teacher(student) is None
    results = {"arguments": {"teacher": str(teacher)}}
    (student / "results.json").write_text(json.dumps(results))
    assert demo.recorded_teacher(student) is None
    teacher.mkdir()
    assert demo.recorded_teacher(student) == str(teacher)


Shown = Callable[..., list[Any]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """The models of student and teacher and the address that `itrd-nlp demo` would serve."""

    def show(*arguments: str) -> list[Any]:
        served: list[Any] = []
        load = "itrd_nlp.tasks.question_answering.pipeline.load_pipeline"
        monkeypatch.setattr(load, lambda name, device: name)
        monkeypatch.setattr(demo, "build_demo", lambda *names: served.append(names))
        monkeypatch.setattr(demo, "launch", lambda _, **where: served.append(where))
        monkeypatch.setattr(sys, "argv", ["itrd-nlp", "demo", *arguments])
        command.main()
        return served

    return show


def test_the_folder_may_come_first(show: Shown, tmp_path: Path) -> None:
    here = {"host": "127.0.0.1", "port": None}
    assert show("a/student") == [("a/student",), here]
    assert show("--model", "a/student") == [("a/student",), here]
    assert show("s", "--teacher", "t", "--port", "7", "--host", "::") == [
        ("s", "t"),
        {"host": "::", "port": 7},
    ]
    config = tmp_path / "demo.yaml"
    config.write_text("model: from/config\n")
    assert show(str(config))[0] == ("from/config",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the folder of a student, as in `itrd-nlp demo runs/my_student`"),
        (["s", "--student_repo", "u/s"], "need --push_space USER/NAME"),
        (["--push_space", "u/page"], "push the student first, and give its id by --student_repo"),
        ([".", "--push_space", "u/page"], "push the student first, and give its id"),
        (["--push_space", "page", "--student_repo", "u/s"], "repo_id is 'page', but must be USER"),
        (["u/s", "--push_space", "u/page", "--teacher", "u/t"], "teacher would do nothing beside"),
        (["u/s", "--push_space", "u/page", "--host", "::"], "host would do nothing beside push_s"),
        (["u/s", "--push_space", "u/page", "--port", "7"], "port would do nothing beside push_sp"),
        (["u/s", "--push_space", "u/page", "--device", "cpu"], "device would do nothing beside"),
        (["u/a", "--push_space", "u/page", "--student_repo", "u/b"], "model would do nothing besi"),
        (["s", "t"], "'t' is neither an option nor the value of one"),
        (["./absent"], "model ./absent does not exist"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from itrd_nlp.cli.commands.demo import main

    monkeypatch.setattr(sys, "argv", ["itrd-nlp demo", *arguments])
    with pytest.raises(SystemExit) as stop:
        process.run(main)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
