"""The table about the parts of ITRD is that of the record, and the benchmark measures the parts that it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.overhead_parts import WIDTHS, measure

ROOT = Path(__file__).parents[2]


def recorded() -> dict[str, dict[str, float]]:
    record = json.loads((ROOT / "benchmarks" / "overhead_parts.json").read_text(encoding="utf-8"))
    figures: dict[str, dict[str, float]] = record["figures"]
    return figures


def test_the_page_shows_the_recorded_milliseconds() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    section = page.partition("### The parts of ITRD")[2].partition("## ")[0]
    shown = re.findall(r"^\| [a-z].* \| ([\d.]+) \| ([\d.]+) \|$", section, re.MULTILINE)
    columns = [recorded()[str(width)].values() for width in WIDTHS]
    assert shown == [(f"{a:.1f}", f"{b:.1f}") for a, b in zip(*columns, strict=True)]


def test_the_benchmark_measures_the_recorded_parts() -> None:
    found = measure(16, repeats=1)
    assert list(found) == list(recorded()["384"])
    assert min(found.values()) > 0
