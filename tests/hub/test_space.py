"""The page as a Space, pushed to the Hub of this folder."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from transformers import BertTokenizerFast

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.space import push_space

ROOT = Path(__file__).parents[2]


def pushed(hub: Any, monkeypatch: pytest.MonkeyPatch, *models: str) -> dict[str, bytes]:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    url = push_space("user/page", *models, token=hub.token)
    assert url == f"{hub.url}/spaces/user/page"
    return hub.repos["spaces/user/page"].files()


def test_a_space_says_how_to_run_it_and_names_its_models(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gradio

    files = pushed(hub, monkeypatch, "user/student", "user/teacher")
    header = SpaceCard(files["README.md"].decode()).data
    assert (header.sdk, header.sdk_version, header.app_file) == (
        "gradio",
        gradio.__version__,
        "app.py",
    )
    assert header.models == ["user/student", "user/teacher"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert SpecifierSet(project["requires-python"]).contains(header.python_version)
    app = files["app.py"].decode()
    assert 'build_demo(load_pipeline("user/student"), load_pipeline("user/teacher"))' in app
    names = {Requirement(line).name for line in files["requirements.txt"].decode().splitlines()}
    assert {"torch", "transformers"} <= names
    assert names.isdisjoint({"itrd_nlp", "pytest"})
    assert "itrd_nlp/tasks/demo.py" in files
    assert not [name for name in files if "__pycache__" in name]


def test_the_same_again_makes_no_commit(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(hub, monkeypatch, "user/student")
    hub.requests.clear()
    pushed(hub, monkeypatch, "user/student")
    assert not [request for request in hub.requests if "/commit/" in request]
    pushed(hub, monkeypatch, "user/other")
    assert [request for request in hub.requests if "/commit/" in request]


def test_a_page_that_is_to_be_private_does_not_go_to_a_public_space(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    push_space("user/new", "user/student", private=True, token=hub.token)
    assert hub.repos["spaces/user/new"].private
    pushed(hub, monkeypatch, "user/student")
    hub.requests.clear()
    with pytest.raises(UserError, match="user/page exists and is public, but is to be private"):
        push_space("user/page", "user/other", private=True, token=hub.token)
    assert not [request for request in hub.requests if "/commit/" in request]


def test_a_refusal_is_one_sentence(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    with pytest.raises(UserError, match="does not let you do this"):
        push_space("stranger/page", "user/student", token=hub.token)
    with pytest.raises(UserError, match="repo_id is 'student', but must be USER/NAME"):
        push_space("user/page", "student", token=hub.token)


@pytest.mark.slow
def test_the_app_of_the_space_answers_with_models_of_the_hub(
    hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_bert: Any
) -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"t{i}" for i in range(59))]
    for name, layers in (("student", 1), ("teacher", 2)):
        make_bert(layers, seed=0).save_pretrained(tmp_path / name)
        tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)})
        tokenizer.save_pretrained(tmp_path / name)
        hub.api.create_repo(f"user/{name}")
        hub.api.upload_folder(repo_id=f"user/{name}", folder_path=tmp_path / name)
    files = pushed(hub, monkeypatch, "user/student", "user/teacher")
    for name, content in files.items():
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    code = """
import app, itrd_nlp
labels = [b.label for b in app.demo.blocks.values() if type(b).__name__ == "HighlightedText"]
print(itrd_nlp.__file__, *labels, sep="|")
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, cwd=tmp_path / "space", env=hub.env, capture_output=True, text=True, timeout=150
    )
    assert run.returncode == 0, run.stderr
    package = str(tmp_path / "space" / "itrd_nlp" / "__init__.py")
    assert run.stdout.splitlines()[-1].split("|") == [
        package,
        "Teacher, 2 layers",
        "Student, 1 layer",
    ]
