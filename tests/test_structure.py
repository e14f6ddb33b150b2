"""The rooms of the package and the arrows between them: imports point downwards, and a reader can hold the map."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "itrd_nlp"
# From the ground up. A room may import the rooms of the lines above its own.
ORDER = (
    *("_moved", "__init__", "errors"),
    *("files", "losses"),
    *("models", "training"),
    *("publish", "distillation"),
    *("compare", "tasks"),
    *("cli", "__main__"),
    *("benchmarks", "scripts"),
)
APART = {("compare", "tasks"), ("tasks", "compare"), ("scripts", "benchmarks")}


def room(module: str) -> str | None:
    """The room of a dotted module name, None of other packages."""
    first, *rest = module.split(".")
    if first in ("scripts", "benchmarks"):
        return first
    if first != "itrd_nlp":
        return None
    return rest[0] if rest else "__init__"


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, also inside of functions.

    The root of the package names for editors where its lazy names live. It imports none of them.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path == PACKAGE / "__init__.py":
        tree.body = [node for node in tree.body if ast.unparse(node)[:16] != "if TYPE_CHECKING"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            if node.module == "itrd_nlp":  # a module of it, or a name of its __init__
                for alias in node.names:
                    exists = (PACKAGE / alias.name).is_dir() or (
                        PACKAGE / f"{alias.name}.py"
                    ).exists()
                    yield f"itrd_nlp.{alias.name}" if exists else "itrd_nlp"
            elif node.module:
                yield node.module


def arrows() -> dict[str, set[str]]:
    """Room to the rooms that it imports."""
    found: dict[str, set[str]] = {name: set() for name in ORDER}
    for folder in (PACKAGE, ROOT / "benchmarks", ROOT / "scripts"):
        for path in folder.rglob("*.py"):
            own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
            if path == PACKAGE / "__init__.py":
                own = "__init__"
            assert own is not None
            found[own] |= {other for other in map(room, imported(path)) if other} - {own}
    return found


def test_the_root_holds_eight_packages_and_what_all_of_them_need() -> None:
    names = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    packages = {name for name in names if (PACKAGE / name).is_dir()}
    assert packages == {
        *("losses", "models", "training", "distillation"),
        *("publish", "tasks", "compare", "cli"),
    }
    assert names - packages == {
        "__init__.py",
        "__main__.py",
        "_moved.py",
        "errors.py",
        "files.py",
        "py.typed",
    }


FUNCTION, CLASS, MODULE = 60, 250, 400


def lengths() -> Iterator[tuple[str, int, int]]:
    """Every module, class and function: its name, its lines, and how many it may have."""
    for folder in (PACKAGE, ROOT / "benchmarks", ROOT / "scripts"):
        for path in sorted(folder.rglob("*.py")):
            name = str(path.relative_to(ROOT))
            source = path.read_text(encoding="utf-8")
            yield name, len(source.splitlines()), MODULE
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    most = CLASS if isinstance(node, ast.ClassDef) else FUNCTION
                    assert node.end_lineno is not None
                    yield f"{name} {node.name}", node.end_lineno - node.lineno + 1, most


def test_functions_classes_and_modules_fit_a_reader() -> None:
    found = {name: lines for name, lines, most in lengths() if lines > most}
    assert not found


def test_nothing_below_the_commands_names_a_script() -> None:
    scripts = [path.name for path in (ROOT / "scripts").glob("*.py")]
    named = [
        (str(path.relative_to(ROOT)), script)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "cli"
        for script in scripts
        if re.search(rf"(?<!\w){re.escape(script)}(?!\w)", path.read_text(encoding="utf-8"))
    ]
    assert not named


@pytest.mark.parametrize("name", sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")))
def test_a_package_says_what_lives_there_and_what_does_not(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text()))
    assert docstring is not None
    assert len(docstring.splitlines()) >= 2


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_downwards(name: str) -> None:
    below = set(ORDER[: ORDER.index(name)]) - {other for own, other in APART if own == name}
    assert arrows()[name] <= below


def test_there_are_at_most_eight_floors() -> None:
    below = arrows()
    floor: dict[str, int] = {}
    for name in ORDER:
        floor[name] = 1 + max((floor[other] for other in below[name]), default=0)
    assert max(floor.values()) <= 8
