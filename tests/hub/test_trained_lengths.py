"""A model of the Hub is judged at the length of its training, which its results.json there tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from itrd_nlp.cli.jobs import as_trained
from itrd_nlp.tasks.question_answering.arguments import DataArguments

REPO = "user/student"
OWN = {"f1": 50.0, "questions": 3, "arguments": {"max_length": 256, "doc_stride": 64}}


@pytest.fixture
def length_of(as_default_hub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The length at which a model with these files is judged, and with this revision."""
    monkeypatch.setattr("sys.argv", ["itrd-nlp"])
    as_default_hub.api.create_repo(REPO)

    def length_of(files: dict[str, Any], revision: str | None = None) -> int:
        for name, content in files.items():
            as_default_hub.api.upload_file(
                path_or_fileobj=json.dumps(content).encode(), path_in_repo=name, repo_id=REPO
            )
        data = DataArguments(validation_file="dev.json")
        found: int = as_trained(data, REPO, revision).max_length
        return found

    return length_of


def test_the_length_of_its_training_is_read(length_of: Any) -> None:
    assert length_of({"results.json": OWN}) == 256


@pytest.mark.parametrize(
    "files",
    [{"config.json": {}}, {"results.json": {"all": 1}}, {"results.json": [1]}],
    ids=["no file", "a file of another program", "no object"],
)
def test_other_models_have_the_default(length_of: Any, files: dict[str, Any]) -> None:
    assert length_of(files) == DataArguments(validation_file="dev.json").max_length


def test_a_revision_that_is_missing_says_nothing_here(length_of: Any) -> None:
    """The command says it, when it loads the model."""
    default = DataArguments(validation_file="dev.json").max_length
    assert length_of({"results.json": OWN}, "nowhere") == default
