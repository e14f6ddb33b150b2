"""The figures of the pages about rerankers and embedders are those of their records."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[3] / "docs"


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a recorded comparison."""
    with (DOCS / "results" / name / "table.csv").open() as file:
        return list(csv.DictReader(file))


def figures(row: dict[str, Any], metrics: tuple[str, ...]) -> list[str]:
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
        ("embedding.md", "embedding_mpnet", ("recall_1", "recall_10")),
        ("embedding.md", "similarity", ("spearman",)),
    ],
)
def test_every_row_of_a_comparison_stands_in_its_page(
    page: str, name: str, metrics: tuple[str, ...]
) -> None:
    lines = (DOCS / page).read_text().splitlines()
    for row in rows(name):
        wanted = [f" {figure} " for figure in figures(row, metrics)]
        assert any(all(figure in line for figure in wanted) for line in lines), wanted


@pytest.mark.parametrize("layers", [None, 6, 3])
def test_the_recipe_of_sentence_transformers_stands_in_the_page_of_embedders(
    layers: int | None,
) -> None:
    """Without a number of layers it is the student of MiniLM-L6, whose table has no column for it."""
    folder = "embedding_mpnet" if layers else "embedding"
    record = json.loads((DOCS / f"results/{folder}/sentence_transformers.json").read_text())
    students = [s for s in record["students"] if layers in (None, len(s["layers"]))]
    start = f"| recipe of sentence-transformers | {layers or '2, 4, 6'} | {len(students)} |"
    (line,) = [
        line for line in (DOCS / "embedding.md").read_text().splitlines() if line.startswith(start)
    ]
    assert {student["init"] for student in students} == {"uniform"}
    for metric in ("recall_1", "recall_10"):
        assert f" {statistics.mean(student[metric] for student in students):.2f} " in line
