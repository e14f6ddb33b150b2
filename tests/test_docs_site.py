"""The site: it builds strictly, loads nothing from elsewhere, and its links, anchors and names are all there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]


class Elements(HTMLParser):
    """The elements of a page: tag and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


@pytest.fixture(scope="session")
def elements(site: Path) -> dict[Path, list[tuple[str, dict[str, str]]]]:
    return {path: Elements(path.read_text(encoding="utf-8")).found for path in site.rglob("*.html")}


def test_every_link_and_every_anchor_leads_somewhere(site: Path, elements) -> None:
    ids = {path: {a["id"] for _, a in found if "id" in a} for path, found in elements.items()}
    broken = []
    for page, found in elements.items():
        if page.name == "404.html":  # its links count from the root of a server
            continue
        for _, attributes in found:
            for link in filter(None, (attributes.get("href"), attributes.get("src"))):
                url = urlsplit(link)
                if url.scheme or url.netloc:
                    continue
                target = (page.parent / unquote(url.path)).resolve() if url.path else page
                target = target / "index.html" if target.is_dir() else target
                anchored = not url.fragment or unquote(url.fragment) in ids.get(target, set())
                if not target.is_file() or not anchored:
                    broken.append((page.relative_to(site).as_posix(), link))
    assert broken == []


def test_links_to_the_repository_lead_to_files_of_it(elements) -> None:
    place = re.compile(r"https://github\.com/OWNER/itrd_nlp/(?:blob|tree)/main/([^#]+)")
    links = {a["href"] for found in elements.values() for _, a in found if "href" in a}
    named = [match[1] for link in links if (match := place.match(link))]
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_nothing_is_loaded_from_another_server(site: Path, elements) -> None:
    loaded = []
    for found in elements.values():
        for tag, attributes in found:
            if tag in ("script", "img", "iframe", "source", "video", "audio"):
                loaded.append(attributes.get("src", ""))
            elif tag == "link" and attributes.get("rel") not in ("canonical", "prev", "next"):
                loaded.append(attributes.get("href", ""))
    assert [link for link in loaded if urlsplit(link).netloc] == []
    for path in site.rglob("*.css"):
        style = path.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style), path


# ---- the reference ----


def public_names() -> Iterator[str]:
    """Every class and function of the package without an underscore that has a docstring, by its dotted name."""
    for path in sorted((ROOT / "itrd_nlp").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if any(part.startswith("_") for part in module.split(".")):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef):
                continue
            if not node.name.startswith("_") and ast.get_docstring(node):
                yield f"{module}.{node.name}"


def test_the_reference_has_every_public_name(elements) -> None:
    shown = {a["id"] for found in elements.values() for _, a in found if "id" in a}
    names = list(public_names())
    assert len(names) > 400
    assert [name for name in names if name not in shown] == []


def test_the_first_page_of_the_reference_has_the_names_of_the_package(site: Path) -> None:
    import itrd_nlp

    page = (ROOT / "docs/api/index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[`(\w+)`\]", page)) == set(itrd_nlp.__all__)


# ---- the pages ----

PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_has_the_structure_that_github_shows(name: str, site: Path) -> None:
    """Two readers of markdown differ in lists without a blank line before them, and in how far a list is indented."""
    page = {"README.md": "index", "CONTRIBUTING.md": "contributing"}.get(name, Path(name).stem)
    html = (site / f"{page}.html").read_text(encoding="utf-8")
    article = html[html.index("<article") : html.index("</article>")]
    text = (ROOT / name).read_text(encoding="utf-8")
    expected = count(MarkdownIt("commonmark").enable("table").render(text))
    assert count(article) == expected


def count(html: str) -> Counter[str]:
    tags = ("ul", "ol", "li", "pre", "tr", "h1", "h2", "h3", "h4", "blockquote")
    return Counter({tag: len(re.findall(rf"<{tag}[ >]", html)) for tag in tags})


def test_every_formula_is_drawn(site: Path) -> None:
    html = (site / "method.html").read_text(encoding="utf-8")
    assert html.count('<svg class="math"') > 60
    assert "arithmatex" not in html


def test_an_example_is_shown_as_text_command_and_code(site: Path) -> None:
    html = (site / "examples" / "distil_classifier.html").read_text(encoding="utf-8")
    article = html[html.index("<article") : html.index("</article>")]
    assert article.count("<pre") == 2  # the command, and the code without its docstring
    text = re.sub(r"<[^>]+>", "", article)
    assert text.count("python examples/distil_classifier.py") == 1
    assert "from itertools import product" in text and '"""' not in text
