"""The comparison that docs/usage.md shows for own data is accepted as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from itrd_nlp.cli import parser
from itrd_nlp.cli.comparison import setting_of
from itrd_nlp.compare.arguments import CompareArguments
from itrd_nlp.compare.plan import Plan

PAGE = Path(__file__).parents[2] / "docs" / "usage.md"


def test_the_files_of_the_page_make_the_trainings_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = re.findall(
        r"```yaml\n# (base|comparison)\.yaml[^\n]*\n(.*?)```", PAGE.read_text(), re.DOTALL
    )
    assert [name for name, _ in shown] == ["base", "comparison"]
    for name, text in shown:
        Path(f"{name}.yaml").write_text(text)
    (args,) = parser.parse([CompareArguments], ["comparison.yaml"])
    plan = Plan(args, setting_of(args.task))
    cells = plan.cells(plan.nothing_chosen())
    assert len(cells) == 2 * 3 * 3  # students, methods, seeds
    assert {cell.config["learning_rate"] for cell in cells} == {2e-4, 3e-4}
    base = yaml.safe_load(Path("base.yaml").read_text())
    assert all(cell.config["train_file"] == base["train_file"] for cell in cells)
