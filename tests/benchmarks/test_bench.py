"""Results of a machine that is given back are written to a file of their own, and taken over later."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
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

        def measured(command):
            before_each()
            commands.append(command)
            Path(command[-1]).write_text(
                json.dumps({"runs": {}, "ratios": {}, "environment": {"machine": "a GPU"}})
            )
            return 0

        with monkeypatch.context() as patch:
            patch.setattr(bench, "run_group", run or measured)
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
    runs = {"runs": {"itrd": [{"windows_per_second": 5.0}]}, "arguments": {"worker": None}}

    def ended(command):
        Path(command[-1]).write_text(json.dumps(runs))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    with pytest.raises(SystemExit) as left:
        bench("--only", "train_step_bert", "--output_file", str(output), run=ended)
    assert left.value.code == 143
    found = json.loads(output.read_text())["cuda: H100"]["train_step_bert"]
    assert found == {"runs": runs["runs"], "arguments": {}}


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_signal_in_the_middle_changes_no_complete_record(bench, tmp_path, error):
    kept = (tmp_path / "results.json").read_bytes()

    def ended(command):
        Path(command[-1]).write_text(json.dumps({"runs": {}}))
        raise error

    with pytest.raises(error):
        bench("--only", "train_step_minilm", run=ended)
    assert (tmp_path / "results.json").read_bytes() == kept


SLEEPERS = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
child.wait()
"""


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_signal_ends_the_workers_of_a_benchmark_too(monkeypatch, tmp_path):
    """They would keep the GPU busy under whatever comes next."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from benchmarks import bench

    noted = tmp_path / "pid"

    def signal_it():
        while not noted.exists() or not noted.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, bench.leave)
    try:
        threading.Thread(target=signal_it, daemon=True).start()
        with pytest.raises(SystemExit):
            bench.run_group([sys.executable, "-c", SLEEPERS, str(noted)])
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN  # the second one of `timeout`
    finally:
        signal.signal(signal.SIGTERM, before)
    until = time.monotonic() + 30  # the kernel takes a moment
    while runs(int(noted.read_text())):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_exit_code_of_a_benchmark_is_known(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from benchmarks import bench

    assert bench.run_group([sys.executable, "-c", "import sys; sys.exit(3)"]) == 3


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
