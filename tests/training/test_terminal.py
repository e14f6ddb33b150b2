"""Folders and names are printed as they are, whatever rich makes of their brackets and colons."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import itrd_nlp
from itrd_nlp.training.record import ModelRecord
from itrd_nlp.training.results import print_summary
from itrd_nlp.training.terminal import print_table

NAMES = ["runs/[seed0]", "runs/[bold]t3", "runs/a[/b]/t3", "runs/:smile:", r"runs\[x]", "[/]"]


@pytest.mark.parametrize("name", NAMES)
def test_every_text_of_a_table_is_printed_as_it_is(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    print_table(f"title {name}", [(f"heading {name}", "left"), ("n", "right")], [[name, "1"]])
    title, _, heading, _, row, *_ = capsys.readouterr().out.splitlines()
    assert title.strip() == f"title {name}"
    assert f"heading {name}" in heading
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [name, "1"]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_at_the_end_of_a_run_names_its_folder(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    model = ModelRecord(name=name, scores={"f1": 80.0})
    print_summary([model], f"{name}: 60 questions", {"f1": f"F1 {name}"})
    printed = capsys.readouterr().out
    assert f"{name}: 60 questions" in printed
    assert f"F1 {name}" in printed
    assert printed.count(name) == 3


def test_no_other_module_makes_tables_of_rich() -> None:
    makers = []
    for path in Path(itrd_nlp.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "rich.table":
                makers.append(path.name)
    assert makers == ["terminal.py"]
