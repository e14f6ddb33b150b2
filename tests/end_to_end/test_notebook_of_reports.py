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


def test_rows_of_the_loss_stay_where_an_evaluation_has_the_same_step(
    read: Callable[..., Values], run: Path
) -> None:
    path = run / "analysis" / "history.json"
    losses = [{"step": step, "loss": 9.0 - step, "correlation_1:2": 0.5} for step in (2, 4, 6)]
    evaluations = [{"step": step, "eval_f1": 50.0, "eval_runtime": 1.0} for step in (2, 4, 6)]
    rows = [row for pair in zip(losses, evaluations, strict=True) for row in pair]
    path.write_text(json.dumps(rows))
    values = read(5)
    assert values["trained"]["loss"].to_dict() == {2: 7.0, 4: 5.0, 6: 3.0}
    assert values["lines"] == {"correlation_1:2": [(2, 0.5), (4, 0.5), (6, 0.5)]}


def test_a_run_that_was_fine_tuned_and_has_left_no_analysis_is_read_to_the_end(
    read: Callable[..., Values], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = json.loads((run / "results.json").read_text())
    for name in ("teacher", "layer_pairs"):
        del results[name]
    (run / "results.json").write_text(json.dumps(results))
    shutil.rmtree(run / "analysis")
    values = read()
    assert list(values["table"].index) == ["student"]
    assert values["kept"].isna().all()
    assert "after: not compared" in capsys.readouterr().out


def test_the_groups_of_a_model_without_a_teacher_are_read(
    read: Callable[..., Values], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "analysis" / "breakdown.json"
    change(path, teacher=None)
    read()
    groups = next(iter(json.loads(path.read_text())["student"].values()))
    printed = capsys.readouterr().out
    assert all(name in printed for name in groups)


def test_the_figures_are_those_of_the_files(
    read: Callable[..., Values], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = json.loads((run / "analysis" / "history.json").read_text())
    values = read()
    losses = {row["step"]: row["loss"] for row in history if "loss" in row}
    assert values["trained"]["loss"].to_dict() == losses
    assert values["terms"][0] == "loss"
    assert len(values["lines"]) == len(
        json.loads((run / "results.json").read_text())["layer_pairs"]
    )
    printed = capsys.readouterr().out
    assert "teacher alone right" in printed
    assert "before\n" in printed or "before: not compared" in printed
