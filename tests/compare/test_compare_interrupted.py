"""A comparison that is stopped goes on where it was; a search; a training that fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def start(workplace: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start scripts/compare.py with this YAML in a process of its own."""

    def start(name: str, epochs: int = 2, **content: Any) -> subprocess.Popen[str]:
        base = yaml.safe_load((workplace / "base.yaml").read_text())
        changes = {"num_train_epochs": epochs, "save_strategy": "steps", "save_steps": 2}
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(base | changes))
        content = {"base": str(tmp_path / "base.yaml"), **content}
        (tmp_path / "compare.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return subprocess.Popen(
            [
                *(sys.executable, str(ROOT / "scripts" / "compare.py")),
                *(str(tmp_path / "compare.yaml"), "--output_dir", str(tmp_path / name)),
            ],
            cwd=workplace,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_a_stopped_comparison_goes_on_and_ends_as_an_undisturbed_one(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    def begin(name: str) -> subprocess.Popen[str]:
        methods = {"kd": {"beta_corr": 0, "beta_mi": 0}, "itrd": {"mi_max_samples": 32}}
        return start(name, epochs=20, methods=methods, seeds=[0, 1], jobs=2)

    undisturbed = begin("undisturbed")
    out, err = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, err + out

    folder = tmp_path / "stopped"
    process = begin("stopped")
    second = [folder / "cells" / "student" / method / "seed1" for method in ("kd", "itrd")]
    until = time.monotonic() + 400
    while not any(list(cell.glob("checkpoint-*")) for cell in second):
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "stopped by SIGTERM" in err and "To go on: " in err
    done = {record["name"] for record in records(folder)}  # written down already
    assert 1 <= len(done) < 4
    kept = {name: (folder / "cells" / name / "results.json").read_bytes() for name in done}

    process = begin("stopped")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err + out
    for name, content in kept.items():
        assert (folder / "cells" / name / "results.json").read_bytes() == content
        assert f"{name}:" not in out
    ours, theirs = records(folder), records(tmp_path / "undisturbed")
    assert len(ours) == 4
    for one, other in zip(ours, theirs, strict=True):
        assert one["predictions_sha256"] == other["predictions_sha256"]
        assert one["curves"] == other["curves"]
        assert one["train_seconds"] > 0  # of all parts
    assert not list(folder.glob("cells/*/*/*/checkpoint-*"))


def test_a_search_chooses_on_held_out_questions_and_a_failure_does_not_stop_the_others(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(
        "search",
        methods={
            "kd": {"beta_corr": 0, "beta_mi": 0},
            "itrd": {"mi_max_samples": 32},
            "bad": {"layer_map": ["1:9"]},
        },
        search={
            "kd": [{"temperature": 1}, {"temperature": 8}],
            "itrd": [{"beta_corr": 1}, {"beta_corr": 20}],
            "bad": [{"alpha": 1.1}, {"alpha": 1.5}],
        },
        seeds=[0],
        holdout_questions=6,
        cost_steps=3,
        jobs=2,
    )
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1, err + out
    assert "search/student/bad/try0 failed (exit code 2), see " in err
    assert "names teacher layer 9, but the teacher has layers 1 to 4" in err
    assert "student/bad was not trained: a try of its search failed." in err

    found = records(tmp_path / "search")
    tries = [record for record in found if record["stage"] == "search"]
    cells = [record for record in found if record["stage"] == "cells"]
    assert [record["method"] for record in cells] == ["kd", "itrd"]
    assert {record["questions"] for record in tries} == {8}  # two articles of 4
    assert {record["questions"] for record in cells} == {16}
    assert {r["datasets"]["train"]["questions"] for r in found} == {24}
    for cell in cells:
        own = [record for record in tries if record["method"] == cell["method"]]
        assert len(own) == 2
        assert cell["overrides"] == max(own, key=lambda record: record["f1"])["overrides"]
        assert cell["cost"] > 0
    assert "| student | bad |" not in (tmp_path / "search" / "table.md").read_text()
