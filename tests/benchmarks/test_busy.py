"""The benchmark of a busy machine runs at a tiny size, and its figures are what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # it starts nine processes


def run(module: str, *options: str, output: Path) -> dict:
    command = [sys.executable, "-m", f"benchmarks.{module}", *options, "--output", str(output)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


def test_every_policy_of_waiting_is_measured_alone_and_beside_other_work(tmp_path):
    options = ("--shape", "tiny", "--steps", "2", "--batch_size", "2", "--rounds", "1")
    found = run("busy", *options, output=tmp_path / "busy.json")["figures"]
    assert found.keys() == {"alone", "busy"}
    for place in found.values():
        assert place["runs"].keys() == {"default", "passive", "short", "one thread"}
        assert all(runs[0]["seconds"] > 0 for runs in place["runs"].values())
        passive, default = (place["runs"][name][0]["seconds"] for name in ("passive", "default"))
        assert place["ratios"]["passive"]["median"] == pytest.approx(passive / default)
