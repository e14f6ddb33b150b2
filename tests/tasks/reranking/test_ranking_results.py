"""The figures of the pages about rerankers and embedders are those of their records."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[3] / "docs"


def rows(name: str) -> dict[str, dict[str, Any]]:
    """Method of a recorded comparison to its row."""
    with (DOCS / "results" / name / "table.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def figures(row: dict[str, Any], metrics: tuple[str, str]) -> list[str]:
    shown = [f"{float(row[metric]):.2f}" for metric in metrics]
    main = metrics[0]
    if row.get(f"{main}_difference"):
        parts = [float(row[f"{main}_difference{end}"]) for end in ("", "_low", "_high")]
        shown.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(*parts))
    return shown


@pytest.mark.parametrize(
    ("page", "name", "metrics"),
    [
        ("reranking.md", "ranking", ("ndcg_10", "mrr_10")),
        ("embedding.md", "embedding", ("recall_1", "recall_10")),
        ("embedding.md", "embedding_first", ("recall_1", "recall_10")),
    ],
)
def test_every_row_of_a_comparison_stands_in_its_page(
    page: str, name: str, metrics: tuple[str, str]
) -> None:
    lines = (DOCS / page).read_text().splitlines()
    for row in rows(name).values():
        wanted = [f" {figure} " for figure in figures(row, metrics)]
        assert any(all(figure in line for figure in wanted) for line in lines), wanted


def test_the_recipe_of_sentence_transformers_stands_in_the_page_of_embedders() -> None:
    record = json.loads((DOCS / "results/embedding/sentence_transformers.json").read_text())
    (line,) = [
        line
        for line in (DOCS / "embedding.md").read_text().splitlines()
        if line.startswith("| recipe of sentence-transformers")
    ]
    students = record["students"]
    assert {student["init"] for student in students} == {"uniform"}
    for metric in ("recall_1", "recall_10"):
        assert f" {statistics.mean(student[metric] for student in students):.2f} " in line
    assert f"| {len(students)} |" in line
