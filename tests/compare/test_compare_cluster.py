"""The trainings of a comparison as jobs of submitit: on this machine, and on a SLURM of five small scripts."""

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
from rich.console import Console
from submitit.helpers import DelayedSubmission

from itrd_nlp.compare.arguments import SubmitArguments
from itrd_nlp.compare.cluster import JOB_NAME, RENEWALS, Cluster
from itrd_nlp.compare.plan import Cell
from itrd_nlp.compare.runner import run_cells
from itrd_nlp.compare.setting import Training
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json

ROOT = Path(__file__).parents[2]

# The questions that submitit asks SLURM. A job is a process of this machine, and its state is a file.
SLURM = {
    "sbatch": """
        n=$(( $(ls "$STATES" | wc -l) + 1 )); echo RUNNING > "$STATES/$n"; cp "$1" "$STATES/../script-$n"
        log=$(sed -n 's/^#SBATCH --output=//p' "$1" | sed "s/%j/$n/g; s/%A/$n/g; s/%a/0/g; s/%t/0/g")
        (SLURM_JOB_ID=$n SLURM_JOBID=$n setsid bash "$1" > "$STATES/../out-$n" 2>&1 < /dev/null
         echo COMPLETED > "$STATES/$n") > /dev/null 2>&1 &
        echo "Submitted batch job $n" """,
    "srun": """
        while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
        SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_PROCID=0 SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1 exec "$@" """,
    "sacct": """
        echo "JobID|State|NodeList"
        for f in "$STATES"/*; do echo "$(basename $f)|$(cat $f)|here"; done""",
    "squeue": "exit 0",
    "scancel": """echo "$@" >> "$STATES/../cancelled" """,
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs in front of the path. The script of the job n is in `script-n`."""
    folder = tmp_path / "slurm"
    (folder / "states").mkdir(parents=True)
    for name, body in SLURM.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("STATES", str(folder / "states"))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def cell(folder: Path, number: int = 0) -> Cell:
    config = {"output_dir": str(folder / "cells" / "s" / "m" / f"seed{number}")}
    name = f"s/m/seed{number}"
    return Cell("cells", "s", "m", number, name, {}, config, Training("train", ()), frozenset())


RESULTS = {"version": 2, "task": "question-answering", "metrics": {"f1": "F1"}, "f1": 50.0}
TRAINS = """
import json, pathlib, sys, yaml
config = yaml.safe_load(open(sys.argv[2]))
print("trains", sys.argv[1], flush=True)
record = {record} | {{"config": {{"name": "c", "text": yaml.safe_dump(config)}}}}
(pathlib.Path(config["output_dir"]) / "results.json").write_text(json.dumps(record))
"""


def program(code: str = TRAINS.format(record=RESULTS)) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_training_is_a_job_of_slurm_with_the_options_that_were_given(
    slurm: Path, tmp_path: Path
) -> None:
    submit = SubmitArguments(
        *("slurm", "gpu", 3.5),
        slurm_cpus=6,
        slurm_gpus=2,
        slurm_options={"account": "me"},
    )
    launcher = Cluster(submit, program(), tmp_path)
    failures = run_cells([cell(tmp_path)], launcher=launcher, jobs=1, console=Console(quiet=True))
    assert failures == []
    assert cell(tmp_path).results() is not None
    assert "trains train" in (cell(tmp_path).folder / "train.log").read_text()
    lines = (slurm / "script-1").read_text().splitlines()
    wanted = {"partition=gpu", "cpus-per-task=6", "gpus-per-node=2", "time=210", "account=me"}
    assert {f"#SBATCH --{option}" for option in wanted} <= set(lines)


def test_a_job_that_fails_is_a_failed_training_with_its_own_last_words(
    slurm: Path, tmp_path: Path
) -> None:
    code = "import sys; print('error: the rate is 0.'); sys.exit(2)"
    launcher = Cluster(SubmitArguments("slurm"), program(code), tmp_path)
    (failure,) = run_cells([cell(tmp_path)], launcher=launcher, jobs=1, console=Console(quiet=True))
    assert (failure.code, failure.sentence) == (2, "error: the rate is 0.")


def test_a_job_that_an_earlier_comparison_left_behind_is_waited_for_and_none_is_added(
    slurm: Path, tmp_path: Path
) -> None:
    (slurm / "states" / "1").write_text("RUNNING")
    waiting = cell(tmp_path)
    waiting.folder.mkdir(parents=True)
    write_json(waiting.folder / JOB_NAME, {"submit": "slurm", "job": "1"})
    launcher = Cluster(SubmitArguments("slurm"), program(), tmp_path)
    training = launcher.start(waiting, 1)
    assert training.code() is None
    assert not (slurm / "script-2").exists()
    training.end(signal.SIGTERM)
    assert (slurm / "cancelled").read_text() == "1\n"
    (slurm / "states" / "1").write_text("CANCELLED")
    job = Cluster(SubmitArguments("slurm"), program(), tmp_path).start(waiting, 1)
    assert (slurm / "script-2").exists()
    while job.code() is None:
        time.sleep(0.1)
    assert job.code() == 0


def test_a_short_time_is_no_missing_limit(slurm: Path, tmp_path: Path) -> None:
    """SLURM reads 0 minutes as no limit."""
    launcher = Cluster(SubmitArguments("slurm", slurm_hours=0.001), program(), tmp_path)
    run_cells([cell(tmp_path)], launcher=launcher, jobs=1, console=Console(quiet=True))
    assert "#SBATCH --time=1" in (slurm / "script-1").read_text().splitlines()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"slurm_partition": "gpu"}, "slurm_partition is given, but submit is not"),
        ({"slurm_options": {"account": "me"}}, "slurm_options is given, but submit is not"),
        ({"submit": "slurm", "slurm_hours": 0.0}, "slurm_hours is 0"),
    ],
)
def test_options_of_a_cluster_without_one_are_refused(options: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        SubmitArguments(**options)


def test_a_missing_submitit_and_a_missing_slurm_are_one_sentence_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"submit is 'slurm', but: .*slurm cluster"):
        Cluster(SubmitArguments("slurm"), [], tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"not installed; run pip install 'itrd_nlp\[slurm\]'"):
        Cluster(SubmitArguments("slurm"), [], tmp_path)


# ---- the part on the node, in a process of its own as submitit runs it ----

# As submitit does it: SIGTERM is passed over until a job takes it, and USR2 calls checkpoint() inside of the handler.
NODE = """
import os, pathlib, signal, sys
from itrd_nlp.compare import job
job.RENEWAL_SECONDS = float(sys.argv[1])
work = job.Job(sys.argv[3:], pathlib.Path(sys.argv[2]))
def timed_out(*_):
    print("again", work.checkpoint().function.words, flush=True)
    sys.exit(9)
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGUSR2, timed_out)
print("code", work(), flush=True)
"""
# Saves at the first SIGTERM. The second one ends it.
SAVES = """
import signal, sys, time
def save(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print("saves", flush=True); time.sleep(0.5); print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("trains", flush=True)
time.sleep(60)
"""


def node(log: Path, *words: str, renewal: float = 60.0) -> subprocess.Popen[str]:
    """Start a job, and wait until its training has begun."""
    command = [sys.executable, "-c", NODE, str(renewal), str(log), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    appears(log, "trains")
    return process


def appears(log: Path, word: str) -> None:
    until = time.monotonic() + 60
    while not log.exists() or word not in log.read_text().splitlines():
        assert time.monotonic() < until, word
        time.sleep(0.05)


def test_a_job_whose_time_is_over_saves_and_is_queued_again(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    process = node(log, sys.executable, "-c", SAVES)
    process.send_signal(signal.SIGUSR2)
    out, _ = process.communicate(timeout=100)
    assert (process.returncode, out.split()[0]) == (9, "again")
    assert log.read_text().splitlines()[-2:] == ["saves", "saved"]


def test_a_preempted_job_saves_at_sigterm_and_stays_to_be_queued_again(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    process = node(log, sys.executable, "-c", SAVES)
    process.send_signal(signal.SIGTERM)
    appears(log, "saves")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR2)
    out, _ = process.communicate(timeout=100)
    assert (process.returncode, out.split()[0]) == (9, "again")
    assert log.read_text().splitlines()[-2:] == ["saves", "saved"]


def test_a_cancelled_job_that_nobody_ends_gives_the_exit_code_of_its_training(
    tmp_path: Path,
) -> None:
    process = node(tmp_path / "train.log", sys.executable, "-c", SAVES, renewal=0.0)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=100)[0] == "code 143\n"


def test_a_job_may_be_queued_again_as_often_as_a_long_training_needs(
    slurm: Path, tmp_path: Path
) -> None:
    launcher = Cluster(SubmitArguments("slurm"), program(), tmp_path)
    run_cells([cell(tmp_path)], launcher=launcher, jobs=1, console=Console(quiet=True))
    (pickled,) = (tmp_path / "submitit").glob("*_submitted.pkl")
    assert DelayedSubmission.load(pickled)._timeout_countdown == RENEWALS >= 1000


# ---- whole comparisons, by jobs of this machine ----


@pytest.fixture
def start(workplace: Path, tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Start a comparison of two methods by the real command."""
    base = yaml.safe_load((workplace / "base.yaml").read_text())
    changes = {"num_train_epochs": 40, "save_strategy": "steps", "save_steps": 2}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base | changes))
    methods = {"kd": {"beta_corr": 0, "beta_mi": 0}, "itrd": {"mi_max_samples": 32}}
    content = {"base": str(tmp_path / "base.yaml"), "methods": methods, "seeds": [0]}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, "-m", "itrd_nlp", "compare", str(tmp_path / "compare.yaml")]
    command += ["--output_dir", str(tmp_path / "out"), "--submit", "local"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=workplace,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.slow
def test_jobs_save_when_the_comparison_is_stopped_and_go_on_with_the_next_call(
    start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    cells = [tmp_path / "out" / "cells" / "student" / m / "seed0" for m in ("kd", "itrd")]
    process = start()
    until = time.monotonic() + 300
    while not list(cells[0].glob("checkpoint-*")):
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert not any((folder / "results.json").exists() for folder in cells)
    assert "stopped by SIGTERM" in (cells[0] / "train.log").read_text()
    assert not (cells[1] / "train.log").exists()

    process = start()
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err + out
    steps = {json.loads((folder / "results.json").read_text())["steps"] for folder in cells}
    assert steps == {160}
    starts = [(folder / "train.log").read_text().count("--- started") for folder in cells]
    assert starts == [2, 1]
    again = start()
    out, _ = again.communicate(timeout=100)
    assert again.returncode == 0
    assert "[2/2]" not in out and "| student | itrd |" in out
