"""`itrd-nlp launch`: the sentence of a command is the last one, and its exit code is that of the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
ACCELERATE = ROOT / "configs" / "accelerate"
FAILS = """
import os
from itrd_nlp.cli import process
from itrd_nlp.errors import UserError
def main():
    if os.environ.get("RANK", "0") == "{rank}":
        raise UserError("the data are missing.")
    import time; time.sleep(600)
process.WAIT_FOR_THE_FIRST = 0.0
process.run(main)
"""


def launch(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "itrd_nlp", "launch", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
        **options,
    )


def test_options_that_nobody_gave_are_no_reason_for_a_warning() -> None:
    done = launch("--num_processes", 1, "show-config")
    assert done.returncode == 0, done.stderr
    assert "minilm_t3" in done.stdout
    assert "defaults used instead" not in done.stderr


def test_a_file_of_the_folder_takes_the_place_of_no_library(tmp_path: Path) -> None:
    (tmp_path / "tqdm.py").write_text("raise RuntimeError('a file of the user')")
    # -P: as the console script starts.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "itrd_nlp", "launch", "--num_processes", "1", "show-config"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "minilm_t3" in done.stdout) == (0, True), done.stderr


def test_a_command_is_started_with_its_options_and_ends_with_its_sentence(tmp_path: Path) -> None:
    config = ("--config_file", ACCELERATE / "cpu.yaml")
    ended = launch(*config, "train-squad", "minilm_t3", "--sedd", "1", cwd=tmp_path)
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: there is no option --sedd; did you mean --seed")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("body", "code", "last"),
    [
        ("import sys; sys.exit(0)", 0, None),
        ("import beside, sys; sys.exit(beside.CODE)", 130, None),  # scripts have their own folder
        ("import os; os.kill(os.getpid(), 9)", 137, None),
        (FAILS.format(rank=0), 2, "error: the data are missing."),
    ],
)
def test_a_script_ends_the_launcher_with_its_own_code(
    body: str, code: int, last: str | None, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(body)
    (tmp_path / "beside.py").write_text("CODE = 130")
    ended = launch("--config_file", ACCELERATE / "cpu.yaml", script)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    if last is not None:
        assert ended.stderr.splitlines()[-1] == last


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "who"), [(0, ""), (1, "process 1: ")])
def test_the_sentence_of_any_process_is_the_last_one(rank: int, who: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FAILS.format(rank=rank))
    ended = launch("--config_file", ACCELERATE / "cpu_2proc.yaml", script)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == f"error: {who}the data are missing."
    assert "Traceback" not in ended.stderr


# Takes its time to save, as a training does, and leaves a file when it has saved.
SAVES = """
import os, pathlib, signal, sys, time
rank = os.environ.get("RANK", "0")
def save(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(0.5)
    pathlib.Path("saved-" + rank).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("up-" + rank).write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("config", "ranks", "number"),
    [("cpu", 1, signal.SIGTERM), ("cpu", 1, signal.SIGINT), ("cpu_2proc", 2, signal.SIGTERM)],
)
def test_a_signal_to_the_launcher_lets_the_training_save_before_both_end(
    config: str, ranks: int, number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SAVES)
    options = ["--config_file", str(ACCELERATE / f"{config}.yaml"), "script.py"]
    process = subprocess.Popen(
        [sys.executable, "-m", "itrd_nlp", "launch", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # no terminal sends the signal to all of them
    )
    up = [tmp_path / f"up-{rank}" for rank in range(ranks)]
    until = time.monotonic() + 100
    while not all(path.exists() and path.read_text() for path in up):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (143, False), err
    assert len(list(tmp_path.glob("saved-*"))) == ranks
    assert not any(psutil.pid_exists(int(path.read_text())) for path in up)


def test_a_config_of_accelerate_that_is_missing_is_one_sentence() -> None:
    ended = launch("--config_file", "nosuch.yaml", "train-squad", "minilm_t3")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: The passed configuration file `nosuch")
    assert "Traceback" not in ended.stderr
