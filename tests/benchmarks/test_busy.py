"""The benchmark of a busy machine runs at a tiny size, and its figures are what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import median

ROOT = Path(__file__).parents[2]
COLUMNS = ("default", "short", "passive", "one thread")


def run(module: str, *options: str, output: Path) -> dict:
    command = [sys.executable, "-m", f"benchmarks.{module}", *options, "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


def test_the_page_shows_the_recorded_figures() -> None:
    figures = json.loads((ROOT / "benchmarks" / "busy.json").read_text(encoding="utf-8"))["figures"]
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    section = page.partition("## A busy machine")[2].partition("## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| ")
    ]
    expected = []
    for place in ("alone", "busy"):
        runs = figures[place]["runs"]
        expected.append([f"{median(runs[name], 'seconds'):.3f}" for name in COLUMNS])
    for place in ("alone", "busy"):
        found = [figures[place]["ratios"][name] for name in COLUMNS[1:]]
        texts = [f"{one['median']:.2f}, {one['least']:.2f} to {one['most']:.2f}" for one in found]
        expected.append(["", *texts])
    assert [row[1:] for row in rows[1:]] == expected


@pytest.mark.slow  # it starts nine processes
def test_every_policy_of_waiting_is_measured_alone_and_beside_other_work(tmp_path):
    options = ("--shape", "tiny", "--steps", "2", "--batch_size", "2", "--rounds", "1")
    found = run("busy", *options, output=tmp_path / "busy.json")["figures"]
    assert found.keys() == {"alone", "busy"}
    for place in found.values():
        assert place["runs"].keys() == {"default", "passive", "short", "one thread"}
        assert all(runs[0]["seconds"] > 0 for runs in place["runs"].values())
        passive, default = (place["runs"][name][0]["seconds"] for name in ("passive", "default"))
        assert place["ratios"]["passive"]["median"] == pytest.approx(passive / default)
