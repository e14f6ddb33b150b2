"""The table about the start of the commands is that of the record."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_recorded_seconds() -> None:
    record = json.loads((ROOT / "benchmarks" / "startup.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    section = page.partition("## The start of the commands")[2].partition("## ")[0]
    shown = dict(re.findall(r"\| (?:from )?`(itrd-nlp[^`]*)`.* \| ([\d.]+) \|", section))
    seconds = record["cpu_seconds"]
    first = {"itrd-nlp train-squad": seconds["first optimizer step of itrd-nlp train-squad"]}
    known = {name: f"{value:.2f}" for name, value in (seconds | first).items()}
    assert len(shown) == 5
    assert shown.items() <= known.items()
