"""The figures of the documentation are those of the records, in colours of both modes, and the pictures are small."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from itrd_nlp.training.record import RunRecord

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", DOCS / "tools" / "figures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figures_are_those_of_the_records(figures: ModuleType, tmp_path: Path) -> None:
    drawn = figures.draw(tmp_path)
    assert {path.name for path in drawn} == {path.name for path in (DOCS / "figures").iterdir()}
    for path in drawn:
        assert path.read_text() == (DOCS / "figures" / path.name).read_text(), path.name


def test_the_log_is_that_of_a_run_with_the_recorded_score() -> None:
    record = RunRecord.read(DOCS / "results" / "quickstart")
    assert record is not None
    history = json.loads((DOCS / "results/quickstart/analysis/history.json").read_text())
    assert history[-1]["eval_f1"] == record.scores["f1"]
    assert history[-1]["step"] == record.steps


def test_a_figure_has_a_value_for_each_of_its_colours_in_both_modes() -> None:
    for path in (DOCS / "figures").glob("*.svg"):
        svg = path.read_text(encoding="utf-8")
        style = re.search(r"<style>(.*?)</style>", svg, re.DOTALL)
        assert style is not None
        light, dark = style[1].split("@media (prefers-color-scheme: dark)")
        for name in set(re.findall(r"var\(--([\w-]+)\)", svg)):
            assert f"--{name}: #" in light and f"--{name}: #" in dark, (path.name, name)
        drawn = svg.replace(style[0], "")
        assert not re.search(r"(?:fill|stroke): ?#", drawn), "a colour of one mode alone"
        assert re.search(r'<svg [^>]*width="\d+" height="\d+"', svg)


def test_every_picture_is_small_and_stands_in_a_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    pictures = list((DOCS / "images").glob("*.webp"))
    names = {
        f"{subject}-{look}"
        for subject in ("demo", "report", "site")
        for look in ("light", "dark", "phone")
    }
    assert {path.stem for path in pictures} == names
    assert max(path.stat().st_size for path in pictures) <= 150_000
    assert [path.name for path in pictures if f"images/{path.name}" not in pages] == []


def test_the_table_of_weights_is_that_of_its_record() -> None:
    record = json.loads((DOCS / "results/weights/weights.json").read_text())
    page = (DOCS / "export.md").read_text(encoding="utf-8")
    slow = record["models"]["fp32"]["milliseconds_per_question"]
    for form, row in record["models"].items():
        own = row["milliseconds_per_question"]
        cells = (
            form,
            f"{row['megabytes']:.1f}",
            f"{row['f1']:.2f}",
            f"{row['same_answers']:.1f} %",
            f"{own:.1f}",
            f"{slow / own:.2f}",
        )
        assert f"| {' | '.join(cells)} |" in page, cells
    for text in (
        f"{record['arguments']['questions']:,} questions",
        f"torchao {record['environment']['torchao']}",
        f"onnxruntime {record['environment']['onnxruntime']}",
    ):
        assert text in page, text
