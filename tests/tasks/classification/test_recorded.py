"""The measured tables of docs/classification.md are those of the records beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itrd_nlp.compare.records import read_records
from itrd_nlp.compare.tables import all_columns, markdown, summarise

ROOT = Path(__file__).parents[3]
RECORDED = sorted(
    path.parent for path in (ROOT / "docs/results/classification").glob("*/scores.npz")
)


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_a_table_is_that_of_its_records_and_the_page_has_its_figures(folder: Path) -> None:
    records, scores = read_records(folder)
    (main,) = {record["main_metric"] for record in records}
    rows = summarise(records, scores, reference="kd", main_metric=main)
    table = markdown(rows, all_columns(rows[0].metrics), reference="kd")
    assert (folder / "table.md").read_text().startswith(table)
    page = (ROOT / "docs/classification.md").read_text()
    for row in rows:
        assert f"{row.main:.1f}" in page
        found = row.difference
        if found is not None:
            assert f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]" in page


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_the_teacher_of_a_table_has_a_record_with_seed_and_versions(folder: Path) -> None:
    record = json.loads((folder / "teacher.json").read_text())
    taught = json.loads((folder / "results.jsonl").read_text().splitlines()[0])["teacher"]
    assert record["weights"] == taught["weights"]
    assert {"torch", "transformers", "machine"} <= record["environment"].keys()


def test_both_tables_are_recorded() -> None:
    assert [folder.name for folder in RECORDED] == ["names", "sentences_subset"]
