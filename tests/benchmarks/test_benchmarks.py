"""The benchmarks run, and no ratio has fallen under half of the recorded one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded():
    return json.loads((ROOT / "benchmarks" / "results.json").read_text())


@pytest.fixture(scope="module")
def benchmarks():
    """The folder's modules; they are no package that is installed."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import bench, page, training
    finally:
        sys.path.remove(str(ROOT))
    return {"bench": bench, "page": page, "training": training}


@pytest.mark.slow  # it measures, for a minute or two, and beside other tests it measures less well
def test_no_ratio_has_fallen_under_half_of_the_recorded_one(recorded, benchmarks):
    precision = benchmarks["training"].training_precision()
    before = recorded.get(precision, {}).get("smoke")
    if before is None:
        pytest.skip(
            f"results.json has no ratios of the smoke test for {precision}; make bench records them"
        )
    command = [sys.executable, "-m", "benchmarks.smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == before.keys()
    fallen = {name: (now, before[name]) for name, now in found.items() if now < before[name] / 2}
    assert not fallen, "ratio now, and as recorded by make bench"


def test_the_page_shows_what_is_recorded(recorded, benchmarks, tmp_path):
    page = (ROOT / "docs" / "performance.md").read_text()
    (tmp_path / "performance.md").write_text(page)
    benchmarks["page"].write_page(recorded, tmp_path)
    assert (tmp_path / "performance.md").read_text() == page
    assert (tmp_path / "performance.svg").stat().st_size > 1000


def test_a_candidate_that_was_not_measured_has_no_row(recorded, benchmarks):
    page = benchmarks["page"]
    runs = recorded["bfloat16"]["train_step_minilm"]["runs"]
    assert "ModelOpt" in page.train_step({"train_step_minilm": {"runs": runs}})
    without = {name: found for name, found in runs.items() if name != "modelopt"}
    assert "ModelOpt" not in page.train_step({"train_step_minilm": {"runs": without}})


def test_the_benchmarks_of_one_gpu_are_a_part_of_all_and_have_few_turns(benchmarks, monkeypatch):
    bench = benchmarks["bench"]

    (line,) = re.findall(r"^bench-gpu:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line.startswith("$(BIN)/python benchmarks/bench.py --only ")
    names = line.split(" --only ")[1].split(" --rounds ")[0].split()
    assert set(names) < set(bench.BENCHMARKS)
    commands = []

    noted = []

    def run(command):
        commands.append(command)
        Path(command[-1]).write_text("{}")
        return 0

    monkeypatch.setattr(bench, "run_group", run)
    for name in bench.BENCHMARKS:
        assert bench.measure(name, bench.BenchArguments(rounds=2), noted.append, on_gpu=True)
    assert noted == [{}] * len(bench.BENCHMARKS)
    turns = {command[2]: "--rounds" in command and command[-3] == "2" for command in commands}
    assert [name for name, given in turns.items() if not given] == [
        "benchmarks.profile",
        "benchmarks.matmul_share",  # the median of two steps says little
        "benchmarks.scaling",
    ]
