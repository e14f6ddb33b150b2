"""The token in use is nowhere: in no file that a command wrote, not on its output, and in nothing that the Hub got.

Every command runs in a folder of its own, with the token given in one of the ways in which people give it. Then all of
the folder, all that the commands printed and all that the local Hub received is searched for it.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huggingface_hub import constants

from itrd_nlp import files
from itrd_nlp.cli import process
from itrd_nlp.cli.main import subcommands
from itrd_nlp.publish import privacy

OLD = Path(__file__).parents[1] / "old_files"
# Made up: of a user, of OAuth, of an organisation, of a job, and of a Hub of one's own.
TOKENS = {
    "user": "hf_" + "aB3" * 11,
    "oauth": "hf_oauth_eyJhbGciOi.JIUzI1NiIs-InR5cCI6_IkpX",
    "organisation": "api_org_" + "xY9" * 11,
    "job": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLW9mLW1pbmU",
    "words": "ordinary-words-of-mine",
}
IN_YAML = {
    "plain": "hub_token: {}\n",
    "quoted": "'hub_token': \"{}\"\n",
    "folded": '"hub_token": >-\n  {}\n# the token is {}\n',
    "anchor": "hub_token: &it {}\n",
}
HERE = ("option", "option=", *IN_YAML)
"""Ways of those commands alone that take the option; all others find the token in the environment then."""
WAYS = (*HERE, "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "file")


class Run(NamedTuple):
    """A command with its arguments, and whether it has the option ``hub_token``."""

    command: str
    arguments: tuple[str, ...]
    takes_token: bool = False
    code: int = 0


def push(name: str) -> tuple[str, ...]:
    steps = ("--max_steps", "2", "--save_strategy", "steps", "--save_steps", "1")
    often = ("--hub_strategy", "every_save", "--hub_always_push", "true")
    to = ("--push_to_hub", "true", "--hub_model_id", f"user/{name}", "--output_dir", name)
    return (*steps, *often, *to, "--report_to", "tensorboard")


TEXTS = ("--task", "classification")
WINDOW = ("--max_length", "48", "--doc_stride", "16")
DEV = ("--validation_file", "dev.json")
RUNS = (
    Run("train-teacher", ("teacher.yaml", "--model_name_or_path", "student", *push("a")), True),
    Run("train-squad", ("student.yaml", *push("b")), True),
    Run("train-squad", ("student.yaml", *push("b")), True),  # finished already, and pushed again
    Run("train-squad", ("student.yaml", *push("b"), "--seed", "1"), True, code=2),
    Run("train-squad", ("student.yaml", *push("f"), "--num_layers", "{token}"), True, code=2),
    Run(
        "fine-tune",
        ("classifier.yaml", *TEXTS, "--model_name_or_path", "classifier", *push("c")),
        True,
    ),
    Run("evaluate", ("--model", "b", *DEV, "--output_file", "answers.json")),
    Run("evaluate-squad", ("--predictions_file", "answers.json", *DEV)),
    Run("predict", ("--model", "b", "--input", "dev.json", "--output", "answers.jsonl")),
    Run("predict", ("--model", "c", *TEXTS, "--input", "texts.jsonl", "--output", "labels.jsonl")),
    Run("predict", ("--model", "./{token}", "--input", "dev.json"), code=2),
    Run("report", ("b",)),
    Run("export-onnx", ("--model", "b", *DEV, "--max_f1_drop", "100", *WINDOW)),
    Run(
        "quantise",
        ("--model", "b", *DEV, "--max_f1_drop", "100", *WINDOW, "--output_dir", "small"),
        code=0 if find_spec("torchao") else 2,
    ),
    Run("compare", ("compare.yaml", "--tables_only", "true")),
    Run("show-config", ("student.yaml",)),
    Run("make-unlabelled-questions", ("--source_file", "train.json", "--output_file", "more.json")),
    Run(
        "make-classification-data",
        ("--train_file", "train.json", "--output_dir", "made", *DEV),
    ),
    Run(
        "make-answerless-questions",
        ("--train_file", "train.json", "--output_dir", "vain", "--share", "0", *DEV),
    ),
    Run("make-ranking-data", ("--train_file", "train.json", "--output_dir", "ranking", *DEV)),
    Run("make-plain-text", ("--train_file", "train.json", "--output_dir", "text")),
    Run("push-to-hub", ("--model", "b", "--repo_id", "team/b", "--license", "mit")),
    Run("push-to-hub", ("--model", "c", "--repo_id", "team/c", "--dry_run")),
    Run("demo", ("--push_space", "user/page", "--student_repo", "user/b")),
)
# Commands that start others, and one that has no use for a Hub.
ELSEWHERE = {
    "compare",
    "distil",
    "distil-classifier",
    "fetch-assets",
    "launch",
    "quickstart",
    "train-classifier",
}


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "workshop"
    shutil.copytree(OLD, root, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def as_given(
    hub: Any, as_default_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> tuple[str, str]:
    """A token that the Hub accepts, given in one way. Returns both."""
    token, way = request.param
    hub.token = TOKENS[token]
    for name in privacy.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "token"
    if way == "file":
        path.write_text(hub.token + "\n")
    elif way not in HERE:
        monkeypatch.setenv(way, hub.token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(path))
    return hub.token, way


def started(run: Run, token: str, way: str) -> list[str]:
    """The words of a command, and its config with the token where it belongs there."""
    words = [argument.replace("{token}", token) for argument in run.arguments]
    if not run.takes_token:
        return words
    if way == "option":
        return [*words, "--hub-token", token]
    if way == "option=":
        return [*words, f"--hub_token={token}"]
    if way in IN_YAML:
        text = Path(words[0]).read_text(encoding="utf-8")
        config = Path(f"with-token-{words[0]}")
        config.write_text(IN_YAML[way].format(token, token) + text, encoding="utf-8")
        return [str(config), *words[1:]]
    return words


def result(command: str, words: list[str]) -> int:
    """The exit code of a command in a process that is new, as far as secrets go."""
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[command].stem}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_KEPT_OUT", set())
        patch.setattr(sys, "argv", [f"itrd-nlp {command}", *words])
        try:
            process.run(module.main)
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def found_in(root: Path, token: str) -> Iterator[str]:
    """The files that hold a token, and those whose names do; configs that a person wrote with it are none."""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if token in name:
            yield f"the name {name}"
        theirs = name.startswith("with-token-")
        if path.is_file() and not theirs and token.encode() in path.read_bytes():
            yield name


def test_every_command_is_run() -> None:
    assert {run.command for run in RUNS} | ELSEWHERE == set(subcommands()) - {"train-textbrewer"}


@pytest.mark.parametrize(
    "as_given",
    [
        pytest.param(
            (token, way),
            id=f"{token}-{way}",
            marks=[] if (token, way) == ("words", "option") else [pytest.mark.slow],
        )
        for i, way in enumerate(WAYS)
        for j, token in enumerate(TOKENS)
        # Each way with two tokens, and each token in some ways.
        if (i + j) % len(TOKENS) in (0, 3) or (token, way) == ("words", "option")
    ],
    indirect=True,
)
def test_the_token_in_use_is_nowhere(
    as_given: tuple[str, str],
    hub: Any,
    workshop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    token, way = as_given
    for run in RUNS:
        with monkeypatch.context() as patch:
            if way in HERE and not run.takes_token:
                patch.setenv("HF_TOKEN", token)
            code = result(run.command, started(run, token, way))
        out, err = capfd.readouterr()
        assert code == run.code, (run, err[-2000:])
        assert token not in out + err, run
    assert list(found_in(workshop, token)) == []
    names = {str(path.relative_to(workshop)) for path in workshop.rglob("*") if path.is_file()}
    for name in ("a/results.json", "b/report.html", "a/training_args.bin", "c/README.md"):
        assert name in names
    assert any("events.out.tfevents" in name for name in names)
    assert any(name.startswith("teacher_cache/") for name in names)

    repos = {"user/a", "user/b", "user/c", "team/b", "spaces/user/page"}
    assert repos <= set(hub.repos)
    sent = [*hub.sent, *hub.objects.values(), *hub.parts.values(), *map(str.encode, hub.requests)]
    for repo in hub.repos.values():
        for branch in repo.branches:
            for commit in repo.commits(branch):
                sent += [commit.title.encode(), *(blob.content for blob in commit.tree.values())]
    assert len(sent) > 100
    assert not [content[:200] for content in sent if token.encode() in content]
