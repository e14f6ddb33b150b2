"""The commands that make data refuse in one sentence what they cannot read or write, and leave the old files."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.cli.main import subcommands
from itrd_nlp.errors import UserError


@pytest.mark.parametrize("below", ["", "/new"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("make-plain-text", "output_dir"),
        ("make-ranking-data", "output_dir"),
        ("make-classification-data", "output_dir"),
        ("make-answerless-questions", "output_dir"),
        ("make-unlabelled-questions", "output_file"),
    ],
)
def test_a_file_in_the_place_of_the_folder_is_named(
    command: str, option: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text("kept")
    target = f"mine{below}" if option == "output_dir" else f"mine{below}/more.json"
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[command].stem}")
    monkeypatch.setattr(sys, "argv", [f"itrd-nlp {command}", f"--{option}", target])
    with pytest.raises(
        UserError, match=rf"^{option} mine\S* cannot be written: \S*mine does not let"
    ):
        module.main()
    assert Path("mine").read_text() == "kept"


def squad(articles: int) -> dict[str, Any]:
    """Two paragraphs an article, one question a paragraph."""
    answer = {"text": "Basel", "answer_start": 10}
    return {
        "data": [
            {
                "title": f"t{a}",
                "paragraphs": [
                    {
                        "context": f"the Rhine Basel, it flows {a} {p}. It ends.",
                        "qas": [
                            {"id": f"{a}-{p}", "question": f"where {a} {p}", "answers": [answer]}
                        ],
                    }
                    for p in range(2)
                ],
            }
            for a in range(articles)
        ]
    }


def run(command: str, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[command].stem}")
    monkeypatch.setattr(sys, "argv", [f"itrd-nlp {command}", *options])
    module.main()


@pytest.mark.parametrize("command", ["make-ranking-data", "make-classification-data"])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nosuch.json", "nosuch.json"),
        ("one.json", "no article has two paragraphs|would be empty"),
    ],
)
def test_files_that_are_there_stay_as_they_are_when_the_second_source_is_no_use(
    command: str, name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.json").write_text(json.dumps(squad(4)))
    lone = squad(1)
    lone["data"][0]["paragraphs"] = lone["data"][0]["paragraphs"][:1]
    lone["data"][0]["paragraphs"][0]["qas"][0] |= {"answers": [], "is_impossible": True}
    Path("one.json").write_text(json.dumps(lone))
    both = ["--train_file", "train.json", "--validation_file", "train.json"]
    run(command, monkeypatch, *both, "--output_dir", "out")
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    assert before and all(before.values())
    Path("train.json").write_text(json.dumps(squad(5)))  # other rows
    with pytest.raises(UserError, match=sentence):
        both[-1] = name
        run(command, monkeypatch, *both, "--output_dir", "out")
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("make-ranking-data", "ranking-train"),
        ("make-ranking-data", "pairs-dev"),
        ("make-classification-data", "names-train"),
        ("make-plain-text", "text-dev"),
    ],
)
def test_the_file_behind_a_link_has_the_new_rows(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.json").write_text(json.dumps(squad(20)))
    sources = ["--train_file", "train.json", "--validation_file", "train.json"]
    sources = sources[:2] if command == "make-plain-text" else sources
    run(command, monkeypatch, *sources, "--output_dir", "out")
    link, kept = Path(f"out/{name}.jsonl"), Path("kept.jsonl")
    rows = link.read_text()
    kept.write_text(rows.splitlines(keepends=True)[0])
    link.unlink()
    link.symlink_to("../kept.jsonl")
    run(command, monkeypatch, *sources, "--output_dir", "out")
    assert link.is_symlink() and kept.read_text() == rows
