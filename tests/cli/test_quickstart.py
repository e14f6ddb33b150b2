"""`itrd-nlp quickstart`: which commands it calls, what it refuses before any work, and what a signal does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from itrd_nlp.cli.commands import quickstart
from itrd_nlp.cli.commands.quickstart import SAMPLES
from itrd_nlp.cli.configs import packaged_configs
from itrd_nlp.errors import UserError
from itrd_nlp.tasks.offline_assets import ASSETS
from itrd_nlp.training.children import run_child


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of the commands that it calls, in an empty folder in which all assets are there already."""
    calls: list[list[str]] = []

    def run_child(command: list[str], environment: dict[str, str]) -> int:
        assert environment["ACCELERATE_USE_CPU"] == "true"
        calls.append(list(command)[4:])
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "run_child", run_child)
    monkeypatch.setattr(quickstart, "fetch", lambda asset, folder: False)
    return calls


def call(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["itrd-nlp quickstart", *options])
    quickstart.main()


def test_it_calls_the_two_commands_of_the_configs_and_adds_no_option(
    called: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch)
    assert called == [["train-teacher", "quickstart_teacher"], ["train-squad", "quickstart"]]
    out = capsys.readouterr().out
    assert "takes 3 minutes" in out
    for name in ("squad", "minilm-l6"):
        assert f"assets/{name}: already there." in out
        assert ASSETS[name].licence in out


def test_no_time_is_promised_for_other_sizes(
    called: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--max_train_samples", "80000")
    assert "minutes" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["quickstart_teacher", "quickstart"])
def test_the_values_that_need_no_option_are_those_of_the_configs(name: str) -> None:
    content = yaml.safe_load(packaged_configs()[name].read_text())
    assert {option: content[option] for option in SAMPLES} == SAMPLES
    assert Path(content["output_dir"]).parent == Path(quickstart.OUTPUT_DIR)


def test_other_folders_and_sizes_are_options_of_both_commands(
    called: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, "--assets_dir", "A", "--output_dir", "out", "--max_train_samples", "100")
    files = ["--train_file", "A/squad/train-v1.1.json"]
    files += ["--validation_file", "A/squad/dev-v1.1.json", "--max_train_samples", "100"]
    encoder = ["--model_name_or_path", "A/minilm-l6"]
    student = ["--teacher", "out/teacher", "--output_dir", "out/student"]
    assert called == [
        ["train-teacher", "quickstart_teacher", *encoder, *files, "--output_dir", "out/teacher"],
        ["train-squad", "quickstart", *files, *student],
    ]


def test_a_checkpoint_of_an_earlier_call_is_taken_up(
    called: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("runs/quickstart/student/checkpoint-7").mkdir(parents=True)
    call(monkeypatch)
    resume = ["--resume_from_checkpoint", "true"]
    assert called == [
        ["train-teacher", "quickstart_teacher"],
        ["train-squad", "quickstart", *resume],
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--train_file", "none.json"), "none.json does not exist."),
        (("--model_name_or_path", "file"), "model_name_or_path file is no folder, but must be"),
        (
            ("--output_dir", "/sys/itrd/runs"),
            "output_dir /sys/itrd/runs cannot be written: /sys does not let you write (",
        ),
        (
            ("--assets_dir", "/sys/itrd"),
            "assets_dir /sys/itrd cannot be written: /sys does not let you write (",
        ),
        (("--output_dir", "file/runs"), "/file does not let you write (Not a directory)."),
        (("--max_train_samples", "0"), "max_train_samples is 0"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_fetched(
    options: tuple[str, ...],
    sentence: str,
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("file").touch()
    monkeypatch.setattr(quickstart, "fetch", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(UserError) as caught:
        call(monkeypatch, *options)
    assert sentence in str(caught.value)
    assert called == []


@pytest.mark.parametrize(("code", "own"), [(2, 2), (143, 143), (-9, 137)])
def test_it_ends_with_the_code_of_the_command_that_failed_and_says_how_to_go_on(
    code: int,
    own: int,
    called: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(quickstart, "run_child", lambda *_: code)
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, "--max_eval_samples", "9")
    assert stop.value.code == own
    err = capsys.readouterr().err
    assert ("by the same command: itrd-nlp quickstart --max_eval_samples 9" in err) == (code != 2)
    assert ("ended by SIGKILL" in err) == (code == -9)
    assert "another --output_dir" not in err


def test_a_checkpoint_that_is_refused_leaves_the_quickstart_with_an_option_that_it_has(
    called: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence of the step may name --overwrite_output_dir, which the quickstart lacks."""
    Path("runs/quickstart/teacher/checkpoint-7").mkdir(parents=True)
    monkeypatch.setattr(quickstart, "run_child", lambda *_: 2)
    with pytest.raises(SystemExit):
        call(monkeypatch, "--max_train_samples", "9")
    folder = os.path.join("runs", "quickstart", "teacher")
    assert capsys.readouterr().err == (
        f"The quickstart goes on with what is in {folder}; to start anew, give it another --output_dir.\n"
    )


SLEEPER = """
import signal, sys, time
def stop(*_):
    print("asked", flush=True)
    {then}
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import sys
from itrd_nlp.training.children import run_child
print(run_child([sys.executable, "-c", sys.argv[1]]), flush=True)
"""


@pytest.mark.parametrize(
    ("then", "signals", "ends"),
    [
        ("sys.exit(7)", [signal.SIGINT], ["asked", "7"]),
        ("time.sleep(60)", [signal.SIGTERM, signal.SIGINT], ["asked", "-9"]),
    ],
)
def test_the_first_signal_asks_the_training_to_leave_and_the_second_one_ends_it(
    then: str, signals: list[signal.Signals], ends: list[str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, SLEEPER.format(then=then)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    printed = []
    for number in signals:
        process.send_signal(number)
        printed.append(process.stdout.readline().strip())
    printed += process.stdout.read().split()
    process.wait(20)
    assert printed == ends


def test_a_signal_of_the_terminal_does_not_reach_the_training_by_itself() -> None:
    code = "import os, sys; from itrd_nlp.training.children import run_child; "
    code += "run_child([sys.executable, '-c', 'import os; print(os.getsid(0))'], os.environ)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) != os.getsid(0)


def test_a_signal_that_comes_before_the_process_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = subprocess.Popen

    def popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        os.kill(os.getpid(), signal.SIGTERM)
        return start(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert run_child([sys.executable, "-c", "import time; time.sleep(60)"]) == -signal.SIGTERM
