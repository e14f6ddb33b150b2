"""The notebook that reads a report, cell by cell in this process, on what other runs leave."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebooks" / "read_a_report.ipynb"
Values = dict[str, Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished run, to be changed."""
    return Path(shutil.copytree(ROOT / "tests" / "old_files" / "student", tmp_path / "student"))


@pytest.fixture
def read(run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Values]:
    """Run the cells, the last one that writes the page apart; return the variables that they leave."""
    pytest.importorskip("IPython")
    pytest.importorskip("pandas")
    monkeypatch.setenv("RUN", str(run))

    def read(first: int | None = None) -> Values:
        values: Values = {}
        cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert "write_report" in sources.pop()
        for source in sources[:first]:
            exec(source, values)
        return values

    return read


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("student", "teacher", "kept"),
    [(60.0, 80.0, 75.0), (-4.0, -2.0, math.nan), (-4.0, 50.0, math.nan), (0.0, 50.0, 0.0)],
)
def test_no_share_of_a_negative_score_is_kept(
    read: Callable[..., Values], run: Path, student: float, teacher: float, kept: float
) -> None:
    path = run / "results.json"
    change(path, f1=student, teacher=json.loads(path.read_text())["teacher"] | {"f1": teacher})
    assert read(3)["kept"]["f1"] == pytest.approx(kept, nan_ok=True)
