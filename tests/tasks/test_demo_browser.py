"""The page in a browser: type a question, see the highlighted answer."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks import demo
from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline

pytestmark = pytest.mark.slow

CONTEXT = "The river <b>Rhine</b> flows past Basel, and past Bonn."
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def models(make_reader: Any) -> dict[str, QuestionAnsweringPipeline]:
    words = ["the", "river", "rhine", "flows", "past", "basel", "and", "bonn", *"<>/b,.?"]
    return {
        name: QuestionAnsweringPipeline(*make_reader(words, layers, seed=layers), device="cpu")
        for name, layers in (("Student", 1), ("Teacher", 2))
    }


@pytest.fixture(scope="module")
def url(models: dict[str, QuestionAnsweringPipeline]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = demo.build_demo(models["Student"], models["Teacher"])
    yield demo.launch(page, port=port, wait=False)
    page.close()


def test_a_port_that_is_taken_is_one_sentence(
    url: str, models: dict[str, QuestionAnsweringPipeline]
) -> None:
    port = urlsplit(url).port
    with pytest.raises(UserError, match=f"cannot be served on port {port}"):
        demo.launch(demo.build_demo(models["Student"]), port=port, wait=False)


def test_type_a_question_and_see_the_highlighted_answers(
    url: str, models: dict[str, QuestionAnsweringPipeline]
) -> None:
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    problems: list[str] = []
    hosts: set[str | None] = set()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable)
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(url)

        page.get_by_label("Question").fill("Rhine?")
        page.get_by_label("Context").fill(CONTEXT)
        page.get_by_role("button", name="Answer", exact=True).click()
        page.get_by_text("score ").nth(1).wait_for()
        marks = page.locator(".textfield .highlighted").all_inner_texts()
        facts = page.get_by_text("score ").all_inner_texts()
        texts = page.locator(".textfield").all_inner_texts()

        page.get_by_label("Question").fill("")
        page.get_by_role("button", name="Answer", exact=True).click()
        refusal = page.get_by_text("question is empty")
        refusal.first.wait_for()
        browser.close()

    expected = [models[name](question="Rhine?", context=CONTEXT) for name in ("Teacher", "Student")]
    assert [mark.strip() for mark in marks] == [found["answer"] for found in expected]
    assert [fact.partition(",")[0] for fact in facts] == [
        f"score {f['score']:.2f}" for f in expected
    ]
    assert ["".join(text.split()) for text in texts] == ["".join(CONTEXT.split())] * 2
    assert problems == []
    assert hosts <= {"127.0.0.1", None}, "the page asked other servers"
