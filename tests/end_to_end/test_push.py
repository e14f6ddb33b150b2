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


TOKEN = "ordinary-words-of-mine"  # has no shape by which it could be known


def received(hub: HubServer) -> dict[str, bytes]:
    """All that a Hub was sent: the files of every commit of every branch, titles, large files and requests."""
    found = {f"request {i}": request.encode() for i, request in enumerate(hub.requests)}
    found |= {f"object {name}": content for name, content in hub.objects.items()}
    for repo in hub.repos.values():
        for branch in repo.branches:
            for commit in repo.commits(branch):
                found[f"title {commit.oid}"] = commit.title.encode()
                found |= {f"{commit.oid}/{k}": blob.content for k, blob in commit.tree.items()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "config", "by"),
    [
        ("train_teacher.py", "teacher.yaml", "option"),
        ("train_squad.py", "student.yaml", "option"),
        ("train_squad.py", "student.yaml", "config"),
    ],
)
def test_the_token_in_use_is_in_no_file_and_nothing_that_was_sent(
    run_script, workplace, hub, monkeypatch, script, config, by
):
    monkeypatch.delenv("HF_TOKEN")
    hub.token = TOKEN
    flags = ("--push_to_hub", "true", "--hub_model_id", "user/student", "--output_dir", "out")
    flags += ("--save_strategy", "steps", "--save_steps", "1", "--hub_always_push", "true")
    if by == "option":
        flags += ("--hub-token", TOKEN)
    else:
        path = workplace / config
        path.write_text(f'{path.read_text()}"hub_token": >-\n  {TOKEN}\n# the token is {TOKEN}\n')
    done = run_script(script, config, *flags)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    sent = received(hub)
    assert len(hub.repos["user/student"].commits()) > 1
    assert any(name.endswith("/results.json") for name in sent)
    for name, content in sent.items():
        assert TOKEN.encode() not in content, name

    written = [path for path in workplace.rglob("*") if path.is_file()]
    names = {str(path.relative_to(workplace)) for path in written}
    assert {"out/results.json", "out/README.md", "out/report.html"} <= names
    assert any(name.startswith("cache/") for name in names)
    assert ("out/training_args.bin" in names) == (script == "train_teacher.py")
    for path in written:
        if path.name != config:  # which the user wrote
            assert TOKEN.encode() not in path.read_bytes(), path
