"""A run that is killed and resumed ends bit for bit where an undisturbed one does."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from itrd_nlp.training.checkpoints import checkpoints

RUN = ["student.yaml", "--num_train_epochs", "12", "--save_strategy", "steps", "--save_steps", "2"]
RUN += ["--eval_strategy", "steps", "--eval_steps", "2", "--load_best_model_at_end", "true"]
RUN += ["--metric_for_best_model", "eval_f1", "--mi_max_samples", "32", "--dropout", "0.1"]
RESUME = ["--resume_from_checkpoint", "true"]


def outcome(folder: Path) -> dict[str, object]:
    """Everything that must not depend on what happened on the way."""
    results = json.loads((folder / "results.json").read_text())
    last = checkpoints(folder)[0]
    state = json.loads((last / "trainer_state.json").read_text())
    scores = {log["step"]: log["eval_f1"] for log in state["log_history"] if "eval_f1" in log}
    return {
        "student": (folder / "model.safetensors").read_bytes(),
        "last step": last.name,
        "last student": (last / "model.safetensors").read_bytes(),
        "projections": (last / "objective.safetensors").read_bytes(),
        "scores": scores,
        "best": (state["best_metric"], state["best_global_step"]),
        "EM, F1": (results["exact_match"], results["f1"]),
    }


@pytest.fixture
def undisturbed(run_script, workplace):
    done = run_script("train_squad.py", *RUN, "--output_dir", "undisturbed")
    assert done.returncode == 0, done.stderr
    return outcome(workplace / "undisturbed")


def start(start_script, *arguments: str) -> subprocess.Popen[str]:
    return start_script("train_squad.py", *RUN, *arguments, "--output_dir", "killed", *RESUME)


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> int:
    """Send a signal to the process and everything it started."""
    os.killpg(process.pid, number)
    process.communicate()
    return process.returncode


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


def finish(run_script, workplace, *arguments: str) -> dict[str, object]:
    done = run_script("train_squad.py", *RUN, *arguments, "--output_dir", "killed", *RESUME)
    assert done.returncode == 0, done.stderr
    return outcome(workplace / "killed")


def test_one_kill(run_script, start_script, workplace, undisturbed):
    process = start(start_script)
    wait_for(lambda: len(checkpoints(workplace / "killed")) >= 3, process)
    assert kill(process) == -signal.SIGKILL
    assert finish(run_script, workplace) == undisturbed


def test_a_preempted_run_says_how_to_resume(run_script, start_script, workplace, undisturbed):
    process = start(start_script)
    wait_for(lambda: len(checkpoints(workplace / "killed")) >= 1, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    sentence = next(line for line in errors.splitlines() if "stopped by SIGTERM" in line)
    newest = checkpoints(workplace / "killed")[0].name
    assert newest in sentence
    assert "--resume_from_checkpoint true" in sentence
    assert finish(run_script, workplace) == undisturbed


@pytest.mark.slow
def test_ten_kills_at_random_moments(run_script, start_script, workplace):
    """Moments are drawn over the 120 steps of the run; every third kill comes while a checkpoint is being written."""
    longer = ("--num_train_epochs", "40")
    done = run_script("train_squad.py", *RUN, *longer, "--output_dir", "undisturbed")
    assert done.returncode == 0, done.stderr

    folder = workplace / "killed"

    def reached(step: int) -> bool:
        found = checkpoints(folder)
        return bool(found) and int(found[0].name.rpartition("-")[2]) >= step

    draw = random.Random(0)
    for kills, step in enumerate(sorted(draw.sample(range(2, 100), 10))):
        process = start(start_script, *longer)
        wait_for(partial(reached, step), process)
        if kills % 3 == 0:
            wait_for((folder / ".incomplete-checkpoint").exists, process)
        else:
            time.sleep(draw.random() * 0.1)
        assert process.poll() is None, process.communicate()
        assert kill(process) == -signal.SIGKILL
    assert finish(run_script, workplace, *longer) == outcome(workplace / "undisturbed")


def test_an_output_folder_that_cannot_be_written_is_refused_before_the_training(run_script):
    """/sys refuses even the superuser."""
    done = run_script("train_squad.py", "student.yaml", "--output_dir", "/sys/itrd_nlp")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "/sys/itrd_nlp" in next(x for x in done.stderr.splitlines() if x.startswith("error: "))
