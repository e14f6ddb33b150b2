"""The additions to mkdocs: pages made of files outside of docs/, links that leave docs/, and formulas as SVG.

GitHub shows the same files, so their links are those of the repository. This module turns them into those of the site.
"""

from __future__ import annotations

import ast
import json
import logging
import posixpath
import re
from functools import cache
from html import escape, unescape
from pathlib import Path
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath, text_to_path
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
log = logging.getLogger("mkdocs.hooks.site")

# Page of the site to its file in the repository, where that is not a page of docs/.
SOURCES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}
SOURCES |= {
    f"{path.parent.relative_to(ROOT).as_posix()}/{path.stem}.md": path.relative_to(ROOT).as_posix()
    for pattern in ("*.py", "notebooks/*.ipynb")
    for path in sorted((ROOT / "examples").glob(pattern))
}
PAGES = {source: page for page, source in SOURCES.items()}

_FENCE = re.compile(r"(^ *```.*?^ *```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(
    r"""(?P<open>\]\(|\b(?:src|href)=")(?P<target>[^)\s"#]*)(?P<rest>#[^)\s"]*)?(?P<close>[)"])"""
)
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files outside of docs/."""
    for page, source in SOURCES.items():
        path = ROOT / source
        make = {".md": _markdown, ".py": _script, ".ipynb": _notebook}[path.suffix]
        files.append(File.generated(config, page, content=make(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a file of the repository those of the site."""
    name = page.file.src_uri
    source = SOURCES.get(name, f"docs/{name}")

    def moved(match: re.Match[str]) -> str:
        target, rest = match["target"], match["rest"] or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        target = _of_the_site(target, source, name, config)
        return f"{match['open']}{target}{rest}{match['close']}"

    pieces = _FENCE.split(markdown)
    pieces[::2] = [_LINK.sub(moved, piece) for piece in pieces[::2]]
    return "".join(pieces)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw the formulas, so that no script has to be fetched for them."""

    def drawn(match: re.Match[str]) -> str:
        svg = formula(unescape(match["tex"]))
        return f'<div class="formula">{svg}</div>' if match["tag"] == "div" else svg

    return _FORMULA.sub(drawn, html)


# ---- links ----


def _of_the_site(target: str, source: str, page: str, config: MkDocsConfig) -> str:
    """A link of a file of the repository, as the page made of it needs it."""
    found = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if not (ROOT / found).exists():
        log.warning("%s: the link %s leads to no file.", source, target)
    here = posixpath.dirname(page)
    if found in PAGES:
        return posixpath.relpath(PAGES[found], here or ".")
    if found.startswith("docs/") and (ROOT / found).is_file():
        return posixpath.relpath(found.removeprefix("docs/"), here or ".")
    kind = "tree" if (ROOT / found).is_dir() else "blob"
    return f"{config.extra['repository']}/{kind}/main/{found}"


# ---- pages of other files ----


def _markdown(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _script(path: Path) -> str:
    """An example: its docstring as text, then the whole of it."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    first, _, more = (ast.get_docstring(tree) or "").partition("\n")
    text = re.sub(r"(?m)^    (.+)$", r"```bash\n\1\n```", more.strip("\n"))
    body = "\n".join(source.splitlines()[tree.body[0].end_lineno :]).strip()
    return f"# {first.rstrip('.')}\n\n{text}\n\n```python title={path.name!r}\n{body}\n```\n"


def _notebook(path: Path) -> str:
    """A notebook with its recorded outputs."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += [_output(output) for output in cell.get("outputs", [])]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/svg+xml" in data:
        return "".join(data["image/svg+xml"])
    if "text/html" in data:
        html = "".join(data["text/html"])
        html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
        return html.replace('<table border="1" class="dataframe">', "<table>")
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text title='Output'\n{text.rstrip()}\n```"


# ---- formulas ----

# LaTeX that mathtext writes in another way.
_MATHTEXT = (
    (re.compile(r"\\[lr]Vert(?![a-zA-Z])"), r"\\|"),
    (re.compile(r"\\[lr]vert(?![a-zA-Z])"), "|"),
    (re.compile(r"\\frac(\d)(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\([lg]e)(?![a-zA-Z])"), r"\\\1q"),
)
_SIZE = 10.0
_FONT = FontProperties(size=_SIZE, math_fontfamily="cm")


@cache
def formula(tex: str) -> str:
    """A formula as an SVG element in the colour of the text around it; readers of screens get its LaTeX.

    Args:
        tex: LaTeX without dollars, as far as mathtext of matplotlib knows it.
    """
    tex = " ".join(tex.split())
    drawn = f"${tex}$"
    for latex, mathtext in _MATHTEXT:
        drawn = latex.sub(mathtext, drawn)
    width, height, descent = text_to_path.get_text_width_height_descent(drawn, _FONT, ismath=True)
    outline = TextPath((0, 0), drawn, prop=_FONT, usetex=False)
    box = outline.get_extents()
    left, right = min(0.0, box.x0), max(width, box.x1)
    top, bottom = max(height - descent, box.y1), min(-descent, box.y0)
    ems = [f"{value / _SIZE:.3f}em" for value in (right - left, top - bottom, bottom)]
    return (
        f'<svg class="math" role="img" aria-label="{escape(tex)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="{left:.2f} {-top:.2f} {right - left:.2f} {top - bottom:.2f}" '
        f'style="width:{ems[0]};height:{ems[1]};vertical-align:{ems[2]}">'
        f'<path fill="currentColor" d="{_path_data(outline)}"/></svg>'
    )


def _path_data(outline: Outline) -> str:
    """The data of an SVG path, whose y axis points down."""
    letters = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C"}
    parts = []
    for points, code in outline.iter_segments(curves=True, simplify=False):
        if code == Outline.CLOSEPOLY:
            parts.append("Z")
        else:
            numbers = (
                f"{-v if i % 2 else v:.2f}".rstrip("0").rstrip(".") for i, v in enumerate(points)
            )
            parts.append(letters[code] + " ".join(numbers))
    return "".join(parts)
