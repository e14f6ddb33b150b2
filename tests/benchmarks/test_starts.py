"""Students of several comparisons are paired by their seeds, and their figures stand in the page of plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.starts import compared, main
from itrd_nlp.compare.records import read_records, write_records
from itrd_nlp.compare.statistics import paired_bootstrap
from itrd_nlp.errors import UserError

RECORDED = Path(__file__).parents[2] / "docs" / "results" / "minilm_starts"


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A recorded comparison twice, the second time with another seed and other scores."""
    records, scores = read_records(RECORDED)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    write_records(tmp_path / "a", records, scores)
    others = [r | {"seed": 1, "f1": r["f1"] + 1} for r in records]
    generator = np.random.default_rng(0)
    shuffled = {
        n: v if n.endswith("sources") else generator.permutation(v) for n, v in scores.items()
    }
    write_records(tmp_path / "b", others, shuffled)
    return [tmp_path / "a", tmp_path / "b"]


def test_a_difference_is_the_bootstrap_of_pairs_of_one_seed(folders: list[Path]) -> None:
    found = compared(folders, "kd", "random")
    pairs, sources = [], None
    for folder in folders:
        scores = read_records(folder)[1]
        first, second = (scores[f"{s}/kd/seed0/f1"].astype(float) for s in ("first", "random"))
        pairs.append(100 * (first - second))
        sources = scores.get("first/sources")
    expected = paired_bootstrap(np.stack(pairs), sources)
    assert found["students"]["first"]["difference"] == vars(expected)
    assert found["students"]["first"]["seeds"] == [0, 1]
    assert "difference" not in found["students"]["random"]
    record = next(r for r in read_records(folders[0])[0] if r["name"] == "first/kd/seed0")
    assert found["students"]["first"]["f1"][0] == pytest.approx(record["f1"] + 0.5)


def test_the_command_writes_what_it_prints(
    folders: list[Path], tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "new" / "starts.json"
    main([*map(str, folders), "--reference", "random", "--output_file", str(out)])
    assert out.read_text() == capsys.readouterr().out


def test_what_cannot_be_compared_is_named(folders: list[Path]) -> None:
    with pytest.raises(UserError, match="reference is 'none', but must be one of first, last"):
        compared(folders, "kd", "none")
    records, scores = read_records(folders[1])
    write_records(folders[1], [r for r in records if r["student"] != "last"], scores)
    with pytest.raises(UserError, match="last has other seeds than random"):
        compared(folders, "kd", "random")


def test_folders_that_are_no_pairs_are_refused(folders: list[Path]) -> None:
    with pytest.raises(UserError, match="has the seed 0 of first, which another folder has, too"):
        compared([folders[0], folders[0]], "kd", "random")
    records, scores = read_records(folders[1])
    write_records(folders[1], [r | {"signature": "another"} for r in records], scores)
    with pytest.raises(UserError, match="scores of different examples"):
        compared(folders, "kd", "random")
