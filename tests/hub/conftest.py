"""The Hub of `server.py` as a fixture, for this process and for those that it starts; and a student to push."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import close_session

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from server import HubServer

TEXT = "where does the rhine begin ? in swiss alps and flows to north sea ."


class LocalHub(HubServer):
    """With what a test needs besides.

    Attributes:
        api: `huggingface_hub` in this process.
        env: environment of other processes, in which this is the Hub and the token is known.
    """

    api: HfApi
    env: dict[str, str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    close_session()  # its client remembers proxies and connections
    with LocalHub() as server:
        server.api = HfApi(endpoint=server.url, token=server.token)
        server.env = server.environment(tmp_path / "hub_cache") | {"OMP_NUM_THREADS": "1"}
        yield server
    close_session()


@pytest.fixture
def as_default_hub(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """Make it the Hub of this process, too, as HF_ENDPOINT, HF_TOKEN and HF_HUB_CACHE would have before its start."""
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    files = hub.url + template[template.index("/{repo_id}") :]
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


def results() -> dict[str, Any]:
    """results.json of a small distillation, with paths as a careless user would have given them."""
    return {
        "exact_match": 48.12,
        "f1": 62.2,
        "questions": 2500,
        "layers": 2,
        "teacher": {"name": "teacher", "exact_match": 72.2, "f1": 82.1, "layers": 4},
        "layer_pairs": ["1:2", "2:4"],
        "arguments": {"teacher": "/home/ann/teacher", "output_dir": "/home/ann/runs/student"},
        "command": "scripts/train_squad.py --teacher /home/ann/teacher",
        "datasets": {"validation": {"name": "dev.json", "sha256": "0" * 64, "questions": 2500}},
    }


@pytest.fixture(scope="session")
def built_student(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    folder = tmp_path_factory.mktemp("built") / "student"
    for part in make_reader(TEXT.split(), 2, hidden_size=64, max_position_embeddings=64):
        part.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps(results()))
    (folder / "training_args.bin").write_bytes(b"/home/ann")
    (folder / "report.html").write_text("/home/ann")
    checkpoint = folder / "checkpoint-10"
    checkpoint.mkdir()
    for name in ("optimizer.pt", "objective.safetensors", "model.safetensors"):
        (checkpoint / name).write_bytes(b"not for others")
    return folder


@pytest.fixture
def student_folder(built_student: Path, tmp_path: Path) -> Path:
    """The folder of a run: the student, and beside it files that nobody else is to get."""
    return shutil.copytree(built_student, tmp_path / "student")


PUSHED = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "results.json",
}


def contents(folder: Path) -> dict[str, str]:
    """A hash of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def pushed() -> set[str]:
    """The files that the Hub gets of `student_folder`."""
    return PUSHED


@pytest.fixture
def hash_files() -> Any:
    return contents


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that somebody wanted to wait, which nobody does here."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited
