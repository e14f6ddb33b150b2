"""Results of a machine that is given back are written to a file of their own, and taken over later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """Return a function that runs the command with a record and a page of its own, and returns its commands."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from benchmarks import bench, training

    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(training, "training_precision", lambda: "cuda: H100")
    recorded = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(recorded))
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "performance.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text())

    def run_bench(*options, before_each=lambda: None, run=None):
        commands = []

        def measured(command, **_):
            before_each()
            commands.append(command)
            Path(command[-1]).write_text(
                json.dumps({"runs": {}, "ratios": {}, "environment": {"machine": "a GPU"}})
            )
            return subprocess.CompletedProcess(command, 0)

        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "run", run or measured)
            patch.setattr(sys, "argv", ["bench.py", *options])
            bench.main()
        return commands

    return run_bench


def test_an_output_file_has_the_results_after_each_benchmark_and_nothing_else_is_written(
    bench, tmp_path
):
    output = tmp_path / "gpu.json"
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    seen = []

    def look():
        seen.append(list(json.loads(output.read_text())["cuda: H100"]) if output.exists() else [])

    only = ["train_step_bert", "matmul_share_bert"]
    bench("--only", *only, "--output_file", str(output), before_each=look)
    assert seen == [[], ["train_step_bert"]]
    assert list(json.loads(output.read_text())["cuda: H100"]) == only
    assert {path: path.read_bytes() for path in kept} == kept


def test_on_a_gpu_no_cache_is_filled(bench, tmp_path):
    """It would take most of the minutes that a card is lent for."""
    (command,) = bench("--only", "train_step_bert", "--output_file", str(tmp_path / "gpu.json"))
    chosen = command[command.index("--candidates") + 1 : command.index("--output")]
    assert {"itrd", "kd", "textbrewer", "textbrewer_tuned"} <= set(chosen)
    assert "itrd_cached" not in chosen


def test_a_signal_in_the_middle_leaves_the_turns_that_are_complete(bench, tmp_path, monkeypatch):
    """Such as that of `timeout`, where a machine is lent for minutes."""
    output = tmp_path / "gpu.json"
    before = signal.getsignal(signal.SIGTERM)
    runs = {"runs": {"itrd": [{"windows_per_second": 5.0}]}, "arguments": {"worker": None}}

    def ended(command, **_):
        Path(command[-1]).write_text(json.dumps(runs))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    try:
        with pytest.raises(SystemExit) as left:
            bench("--only", "train_step_bert", "--output_file", str(output), run=ended)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left.value.code == 143
    found = json.loads(output.read_text())["cuda: H100"]["train_step_bert"]
    assert found == {"runs": runs["runs"], "arguments": {}}


def test_an_output_file_is_taken_over(bench, tmp_path):
    output = tmp_path / "gpu.json"
    bench("--only", "train_step_bert", "--output_file", str(output))
    bench("--merge", str(output))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["cuda: H100"].keys() == {"train_step_bert"}
    assert "train_step_minilm" in results["bfloat16"]
    assert "In bf16 on a GPU (H100):" in (tmp_path / "docs" / "performance.md").read_text()


@pytest.mark.parametrize("content", ["[1]", "{", '{"cuda": 3}'])
def test_a_file_of_something_else_is_refused_and_changes_nothing(bench, tmp_path, content):
    from itrd_nlp.errors import UserError

    before = (tmp_path / "results.json").read_bytes()
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(UserError, match=r"other\.json"):
        bench("--merge", str(tmp_path / "other.json"))
    assert (tmp_path / "results.json").read_bytes() == before


def test_a_gpu_has_no_sweep_of_the_losses(bench, tmp_path):
    (command,) = bench("--only", "losses", "--output_file", str(tmp_path / "gpu.json"))
    assert "--sweep" not in command
