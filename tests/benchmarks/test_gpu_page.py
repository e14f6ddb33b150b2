"""Figures of a GPU reach the page with the name of the GPU."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from benchmarks import page

    return page


@pytest.fixture
def recorded():
    """The recorded results of CPUs."""
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    return {name: part for name, part in results.items() if not name.startswith("cuda")}


@pytest.fixture
def written(page, recorded, tmp_path):
    """Return a function that writes the page of the recorded results and of further parts."""

    def write(**parts):
        target = tmp_path / "performance.md"
        target.write_text((ROOT / "docs" / "performance.md").read_text())
        page.write_page(
            recorded | {f"cuda: {name}": part for name, part in parts.items()}, tmp_path
        )
        return target.read_text()

    return write


def steps_of(card, speed=10.0):
    runs = {"itrd": speed, "kd": 1.5 * speed, "textbrewer": 1.0}
    return {
        "train_step_bert": {
            "runs": {
                name: [{"windows_per_second": value, "peak_megabytes": 5.0}]
                for name, value in runs.items()
            },
            "ratios": {"kd / itrd": {"ratios": [1.5]}, "itrd / textbrewer": {"ratios": [speed]}},
            "environment": {"torch": "9.9", "machine": f"Linux, 16 CPUs, 1 x {card}"},
        }
    }


def block(text, name):
    return re.search(f"<!-- {name} -->(.*)<!-- end of {name} -->", text, re.DOTALL)[1]


def test_a_gpu_that_measured_only_whole_steps_has_its_machine_on_the_page(written):
    found = written(**{H100: steps_of(H100)})
    assert f"Linux, 16 CPUs, 1 x {H100}; torch 9.9." in block(found, "versions")
    for name in ("goals", "train_step", "versions"):
        assert f"bf16 on a GPU ({H100})" in block(found, name)


def test_two_cards_have_two_columns(written):
    found = written(**{H100: steps_of(H100, 10), "NVIDIA A100": steps_of("NVIDIA A100", 7)})
    head, _, first, *_ = block(found, "goals").strip().splitlines()
    assert [cell.partition(":")[0].strip() for cell in head.split("|")[5:7]] == [
        "bf16 on a GPU (NVIDIA A100)",
        f"bf16 on a GPU ({H100})",
    ]
    assert [cell.strip() for cell in first.split("|")[5:7]] == [
        "7.00, 7.00 to 7.00",
        "10.00, 10.00 to 10.00",
    ]


def test_the_time_that_itrd_adds_comes_from_whole_steps_where_nothing_else_has_it(written):
    rows = block(written(**{H100: steps_of(H100)}), "goals").splitlines()
    (row,) = [r for r in rows if "768 wide: time of ITRD + KD" in r]
    assert row.split("|")[-2].strip() == "1.50, 1.50 to 1.50"
    assert "1.05, 1.04 to 1.09" in row  # the figure of the benchmark of its own, on a CPU


def test_the_losses_of_a_gpu_stand_beside_those_of_the_cpu(written, recorded):
    losses = recorded["bfloat16"]["losses"]
    found = block(written(**{H100: {"losses": losses}}), "losses")
    assert found.count("In bf16:") == 1
    assert found.count(f"In bf16 on a GPU ({H100}):") == 1
    assert found.count("| seconds |") == 2


def test_seconds_of_a_gpu_have_four_decimals(written, recorded):
    runs = {"ours": [{"seconds": 0.00891, "megabytes": 1.0}]}
    runs["formulas"] = [{"seconds": 0.01496, "megabytes": 2.0}]
    losses = recorded["bfloat16"]["losses"] | {"runs": runs}
    found = block(written(**{H100: {"losses": losses}}), "losses")
    assert "| seconds | 0.0089 | 0.0150 |" in found
    assert "| seconds | 0.90 | 2.51 |" in found


def test_what_was_not_measured_on_a_gpu_is_what_has_no_record(written, recorded):
    without = written()
    assert "no CUDA figures" in block(without, "gpu")
    assert "whole steps against TextBrewer" in block(without, "not on a gpu")
    assert "the losses alone" in block(without, "not on a gpu")
    measured = steps_of(H100) | {"losses": recorded["bfloat16"]["losses"]}
    found = written(**{H100: measured})
    assert "no CUDA figures" not in found
    assert "TextBrewer" not in block(found, "not on a gpu")
    assert "the losses alone" not in block(found, "not on a gpu")


def test_a_part_has_the_name_of_the_gpu(monkeypatch, page):
    from benchmarks import training

    monkeypatch.setattr(training.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(training.torch.cuda, "get_device_name", lambda: H100)
    assert training.training_precision() == f"cuda: {H100}"
