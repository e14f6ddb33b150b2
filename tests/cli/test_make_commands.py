"""The commands that make data say in one sentence, before they read anything, that a folder cannot be written."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

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
