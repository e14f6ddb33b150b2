"""The page shows the recorded figures of `load_pipeline`."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.harness import median

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_recorded_questions_per_second() -> None:
    record = json.loads((ROOT / "benchmarks" / "answering.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    section = page.partition("## Answers a second")[2].partition("## ")[0]
    shown = [line.rsplit("|", 3)[1:3] for line in section.splitlines() if line.startswith("| ")][1:]
    assert [[cell.strip() for cell in cells] for cells in shown] == [
        [f"{median(runs, 'questions_per_second'):.1f}", f"{median(runs, 'peak_megabytes'):,.1f}"]
        for runs in record["runs"].values()
    ]
    for name in ("batched / loop", "bf16 / loop"):
        found = record["ratios"][name]
        assert f"{found['median']:.2f}" in section
        assert f"{found['least']:.2f} to {found['most']:.2f}" in section
    stream = record["stream"]
    assert f"adds {stream['megabytes_after_a_tenth']:.0f} MB in its first tenth" in section
    assert f"and {stream['megabytes']:.0f} MB in all" in section
