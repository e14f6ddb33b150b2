"""The figures of the page about plain text are those of their records."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.starts import compared

DOCS = Path(__file__).parents[3] / "docs"
RESULTS = DOCS / "results"
PAGE = (DOCS / "masked_lm.md").read_text(encoding="utf-8").splitlines()


def stand_in_a_row(figures: list[str]) -> bool:
    return any(all(f" {figure} " in line for figure in figures) for line in PAGE)


def interval(difference: dict[str, Any]) -> str:
    return "{mean:+.2f} [{low:+.2f}, {high:+.2f}]".format(**difference)


def test_every_row_of_the_general_step_stands_in_the_page() -> None:
    with (RESULTS / "masked_lm" / "table.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    lines = (RESULTS / "masked_lm" / "results.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for method, row in rows.items():
        of_method = [r for r in records if r["method"] == method] or [records[0]["teacher"]]
        figures = [
            f"{float(row['accuracy']):.2f}",
            f"{mean(r['perplexity'] for r in of_method):.1f}",
        ]
        if row["accuracy_difference"]:
            ends = {"mean": "", "low": "_low", "high": "_high"}
            found = {k: float(row[f"accuracy_difference{end}"]) for k, end in ends.items()}
            figures.append(interval(found))
        assert stand_in_a_row(figures), figures


def test_every_start_of_the_second_step_stands_in_the_page() -> None:
    record = json.loads((RESULTS / "masked_lm" / "starts.json").read_text())
    assert record["folders"] == ["masked_lm_squad", "masked_lm_squad_1"]
    for student in record["students"].values():
        assert student["seeds"] == [0, 1]
        figures = [f"{student[name][0]:.2f}" for name in ("exact_match", "f1")]
        if "difference" in student:
            figures.append(interval(student["difference"]))
        assert stand_in_a_row(figures), figures


def test_the_record_of_the_starts_follows_from_those_of_the_comparisons() -> None:
    record = json.loads((RESULTS / "masked_lm" / "starts.json").read_text())
    folders = [RESULTS / name for name in record["folders"]]
    assert json.loads(json.dumps(compared(folders, "kd", "untrained"))) == record
