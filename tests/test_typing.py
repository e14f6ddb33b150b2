"""Editors and type checkers know the names of the package, although they are loaded on first use."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import jedi
import pytest

import itrd_nlp

ROOT = Path(__file__).parents[1]
LAZY = ("itrd_nlp", "itrd_nlp.tasks.classification", "itrd_nlp.tasks.question_answering")
PROJECT = jedi.Project(ROOT)


@pytest.mark.parametrize("name", LAZY)
def test_the_names_for_editors_are_those_that_are_loaded_on_first_use(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    declared = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        declared |= {alias.name: node.module for alias in node.names}
    assert declared.keys() == set(package.__all__) == package._HOME.keys()
    for attribute, module in declared.items():
        assert getattr(package, attribute) is getattr(
            importlib.import_module(str(module)), attribute
        )
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_an_editor_completes_the_names_and_the_arguments() -> None:
    names = jedi.Script("import itrd_nlp\nitrd_nlp.", project=PROJECT).complete()
    assert set(itrd_nlp.__all__) <= {name.name for name in names}
    call = "from itrd_nlp import ITRDTrainingArguments\nITRDTrainingArguments('x', beta_"
    found = {name.name for name in jedi.Script(call, project=PROJECT).complete()}
    assert {"beta_corr=", "beta_mi="} <= found


USER = """
from itrd_nlp import ITRDTrainingArguments, correlation_loss

args = ITRDTrainingArguments("out", alpha=1.5, learning_rate=1e-4)
reveal_type(args.beta_corr)
ITRDTrainingArguments("out", alpah=1.5)
ITRDTrainingArguments("out", alpha="high")
correlation_loss()
"""


@pytest.mark.slow
def test_mypy_finds_a_wrong_argument_in_the_file_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "user.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = {line.split(":", 2)[1]: line for line in done.stdout.splitlines() if ".py:" in line}
    assert lines.keys() == {"5", "6", "7", "8"}, done.stdout
    assert 'Revealed type is "float"' in lines["5"]
    assert 'Unexpected keyword argument "alpah"' in lines["6"]
    assert 'did you mean "alpha"?' in lines["6"]
    assert 'Argument "alpha" to "ITRDTrainingArguments" has incompatible type "str"' in lines["7"]
    assert "correlation_loss" in lines["8"]
