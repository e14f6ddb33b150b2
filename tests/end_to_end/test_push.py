"""`--push_to_hub` of the training scripts, against a Hub on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))  # test folders are no packages

from server import HubServer


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hub of the processes that a test starts."""
    with HubServer() as server:
        for name, value in server.environment(tmp_path / "hub_cache").items():
            if name.startswith("HF_"):
                monkeypatch.setenv(name, value)
        yield server


@pytest.mark.slow
def test_a_run_pushes_the_student_with_its_results_in_one_commit(run_script, workplace, hub):
    push = ("--push_to_hub", "true", "--hub_model_id", "user/student", "--hub_strategy", "end")
    done = run_script("train_squad.py", "student.yaml", *push)
    assert done.returncode == 0, done.stderr
    files = hub.repos["user/student"].files()
    assert set(files) - {".gitattributes"} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("README.md", "results.json"),
    }
    results = json.loads(files["results.json"])
    assert f"{results['f1']:.2f}" in files["README.md"].decode()
    commits = len(hub.repos["user/student"].commits())
    assert commits == 1
    assert hub.token not in done.stdout + done.stderr + json.dumps(results)

    again = run_script("train_squad.py", "student.yaml", *push)
    assert again.returncode == 0, again.stderr
    assert "Finished already" in again.stdout
    assert len(hub.repos["user/student"].commits()) == commits


@pytest.mark.slow
def test_a_hub_that_refuses_costs_no_training(run_script, workplace, hub):
    push = ("--push_to_hub", "true", "--hub_model_id", "user/student", "--hub_strategy", "end")
    hub.fail("POST .*/commit/", 403, times=99)
    done = run_script("train_squad.py", "student.yaml", *push)
    assert done.returncode == 2
    assert "403" in done.stderr.splitlines()[-1]
    assert (workplace / "student" / "results.json").is_file()
    hub.heal()
    again = run_script("train_squad.py", "student.yaml", *push)
    assert again.returncode == 0, again.stderr
    assert "model.safetensors" in hub.repos["user/student"].files()
