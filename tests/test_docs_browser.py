"""The site in headless Chromium: nothing is asked of another server, the search finds, and a phone scrolls no page."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "tools"))

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium or google-chrome on PATH"),
]


@pytest.fixture(scope="module")
def tools() -> Any:
    pytest.importorskip("playwright.sync_api")
    return pytest.importorskip("screenshots")


@pytest.fixture(scope="module")
def browser(tools: Any) -> Iterator[Any]:
    with tools.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tools: Any, site: Path) -> Iterator[str]:
    with tools.served(str(site)) as url:
        yield url


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page as wide as a phone; what it complains about, or asks of others, must be nothing."""
    complaints: list[str] = []
    hosts: set[str | None] = set()
    context = browser.new_context(viewport={"width": 390, "height": 844})
    opened = context.new_page()
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    yield opened
    context.close()
    assert complaints == []
    assert hosts == {"127.0.0.1"}


def test_no_page_is_wider_than_a_phone(page: Any, address: str, site: Path) -> None:
    wide = []
    for path in sorted([*site.glob("*.html"), *site.glob("examples/**/*.html")]):
        if path.name != "404.html":
            page.goto(f"{address}/{path.relative_to(site)}")
            width = page.evaluate("document.documentElement.scrollWidth")
            wide += [(path.name, width)] if width > 390 else []
    assert wide == []


def test_the_search_finds_a_name_of_the_package(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{address}/index.html")
    page.get_by_placeholder("Search").fill("correlation_loss")
    page.locator(".md-search-result__link").first.wait_for()
    found = page.locator(".md-search-result__link").evaluate_all("links => links.map(l => l.href)")
    assert any("api/losses.html" in link for link in found)


def test_a_figure_takes_the_colours_of_the_mode_that_the_reader_chose(
    page: Any, address: str
) -> None:
    """The switch of the site, not the system, which stays light here."""
    page.goto(f"{address}/performance.html")
    figure = page.locator('img[src$="f1_against_ms.svg"]')
    figure.scroll_into_view_if_needed()
    light = figure.screenshot()
    page.evaluate("document.body.setAttribute('data-md-color-scheme', 'slate')")
    page.wait_for_timeout(500)
    assert (
        page.evaluate(
            "getComputedStyle(document.querySelector('img[src$=\"f1_against_ms.svg\"]')).colorScheme"
        )
        == "dark"
    )
    assert figure.screenshot() != light
