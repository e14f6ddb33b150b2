"""A measurement that fails costs its own figures and no others, and says so."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks_are_importable(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


def exit_code(main) -> int:
    from itrd_nlp.cli import process

    with pytest.raises(SystemExit) as error:
        process.run(main)
    return error.value.code


@pytest.fixture
def train_step(monkeypatch, tmp_path):
    """Return a function that runs the benchmark with candidates whose figures are known, and returns what it wrote."""
    from benchmarks import train_step

    def run(fails_in, candidates=("itrd", "kd", "textbrewer")):
        turns = dict.fromkeys(candidates, 0)

        def worker(command, **_):
            name = command[-1]
            turns[name] += 1
            if fails_in.get(name) == turns[name]:
                return subprocess.CompletedProcess(command, 1, "", "out of memory")
            figures = {"windows_per_second": 10.0 * turns[name], "peak_megabytes": 1.0}
            return subprocess.CompletedProcess(command, 0, json.dumps(figures), "")

        output = tmp_path / "figures.json"
        options = ["--candidates", *candidates, "--rounds", "3", "--output", str(output)]
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "run", worker)
            patch.setattr(sys, "argv", ["train_step", *options])
            code = exit_code(train_step.main)
        return code, json.loads(output.read_text()) if output.exists() else None, turns

    return run


def test_a_candidate_that_fails_leaves_the_figures_of_the_others(train_step, capsys):
    code, written, turns = train_step({"textbrewer": 1})
    assert code == 2
    assert {name: len(found) for name, found in written["runs"].items()} == {"itrd": 3, "kd": 3}
    assert written["ratios"].keys() == {"kd / itrd"}
    assert turns["textbrewer"] == 1  # it is not tried again
    assert "the measurement of textbrewer failed: out of memory" in capsys.readouterr().err


def test_a_candidate_that_fails_later_has_the_ratios_of_its_turns(train_step):
    code, written, _ = train_step({"textbrewer": 3})
    assert code == 2
    assert len(written["ratios"]["itrd / textbrewer"]["ratios"]) == 2
    assert len(written["ratios"]["kd / itrd"]["ratios"]) == 3


def test_candidates_that_all_fail_write_nothing(train_step):
    code, written, _ = train_step({"itrd": 1, "kd": 1}, candidates=("itrd", "kd"))
    assert (code, written) == (2, None)


def test_figures_are_written_after_each_turn(monkeypatch):
    from benchmarks import harness

    def worker(command, **_):
        return subprocess.CompletedProcess(command, 0, json.dumps({"seconds": 1.0}), "")

    monkeypatch.setattr(subprocess, "run", worker)
    seen = []
    harness.take_turns_without_the_failed(
        "losses", {"a": [], "b": []}, 2, after_each=lambda runs: seen.append(len(runs["a"]))
    )
    assert seen == [1, 1, 2, 2]


def test_a_benchmark_that_fails_does_not_end_those_that_follow(monkeypatch, tmp_path):
    from benchmarks import bench, page

    results = tmp_path / "results.json"
    monkeypatch.setattr(bench, "RESULTS", results)
    monkeypatch.setattr(page, "write_page", lambda *_: None)

    def run(command):
        module = command[2].removeprefix("benchmarks.")
        if module != "losses":
            Path(command[-1]).write_text(json.dumps({"arguments": {}}))
        return 0 if module == "scaling" else 2

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(bench, "run_group", run)
    only = ["losses", "train_step_minilm", "scaling"]
    monkeypatch.setattr(sys, "argv", ["bench.py", "--only", *only])
    assert exit_code(bench.main) == 2
    (measured,) = json.loads(results.read_text()).values()
    assert list(measured) == ["train_step_minilm", "scaling"]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("candidate", "package"),
    [
        ("textbrewer", "textbrewer"),
        ("textbrewer_tuned", "textbrewer"),
        ("modelopt", "nvidia-modelopt"),
    ],
)
def test_a_peer_that_is_not_installed_is_named_as_pip_knows_it(monkeypatch, candidate, package):
    from benchmarks import train_step
    from itrd_nlp.errors import UserError

    monkeypatch.setattr(train_step.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"run pip install {package}\.$"):
        train_step.measure(train_step.TrainStepArguments(), candidate)
