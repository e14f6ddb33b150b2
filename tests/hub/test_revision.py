"""A model that lies on a branch alone: the branch says the task, too."""

from __future__ import annotations

import json
from typing import Any

from itrd_nlp.cli.jobs import asked_task
from itrd_nlp.tasks import task_named

REPO = "user/ranker"


def test_the_task_is_that_of_the_revision(as_default_hub: Any) -> None:
    api = as_default_hub.api
    api.create_repo(REPO)
    api.create_branch(REPO, branch="v2")
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    api.upload_file(
        path_or_fileobj=json.dumps(config).encode(),
        path_in_repo="config.json",
        repo_id=REPO,
        revision="v2",
    )
    words = ["--model", REPO, "--model_revision", "v2"]
    assert asked_task(words, model_option="model") is task_named("masked-lm")
