"""`--help` shows the options of the project without loading torch, and `--help-all` shows every option there is."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from transformers import TrainingArguments

from itrd_nlp import __version__
from itrd_nlp.cli import main as command
from itrd_nlp.cli import parser
from itrd_nlp.distillation import options
from itrd_nlp.losses.projection import INITS
from itrd_nlp.losses.views import VIEWS
from itrd_nlp.tasks import OPTIONS, TASKS, options_of, task_named

ROOT = Path(__file__).parents[2]
# launch has the parser of accelerate.
NAMES = sorted(command.subcommands().keys() - {"launch"})
TRAINING = (
    *("distil", "distil-classifier", "fine-tune"),
    *("train-classifier", "train-squad", "train-teacher", "train-textbrewer"),
)
HEAVY = ("torch", "datasets", "evaluate", "pandas", "matplotlib", "transformers.trainer")


@pytest.fixture
def helped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, str], tuple[str, set[str]]]:
    """Runs a command with one option, and returns what it printed and the options of its parser."""
    built: list[parser._Parser] = []

    class Seen(parser._Parser):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            built.append(self)

    monkeypatch.setattr(parser, "_Parser", Seen)

    def helped(name: str, option: str) -> tuple[str, set[str]]:
        monkeypatch.setattr(sys, "argv", [f"itrd-nlp {name}", option])
        module = importlib.import_module(
            f"itrd_nlp.cli.commands.{command.subcommands()[name].stem}"
        )
        with pytest.raises(SystemExit) as stop:
            module.main()
        assert not stop.value.code
        actions = built[-1]._actions
        return capsys.readouterr().out, {action.option_strings[0] for action in actions}

    return helped


def listed(text: str) -> set[str]:
    """The options that have a line in a help."""
    return set(re.findall(r"(?m)^  (--\w+)", text))


def test_the_help_of_no_command_loads_torch_or_another_heavy_package() -> None:
    code = f"""
import contextlib, io, json, sys
from itrd_nlp.cli.main import main
for name in {NAMES}:
    sys.argv = ["itrd-nlp", name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main()
    assert text.getvalue().startswith(f"usage: itrd-nlp {{name}} "), text.getvalue()
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("name", NAMES)
def test_help_and_help_all_list_every_option_that_the_parser_takes(
    name: str, helped: Callable[[str, str], tuple[str, set[str]]]
) -> None:
    whole, accepted = helped(name, "--help-all")
    ours, _ = helped(name, "--help")
    assert listed(whole) == accepted - {"-h", "--help-all"}
    theirs = listed(whole) - listed(ours)
    assert listed(ours) <= listed(whole)
    assert bool(theirs) == (name in TRAINING)
    assert {option.removeprefix("--").removeprefix("no_") for option in theirs} <= {
        f.name for f in fields(TrainingArguments)
    }
    assert ("--help-all" in ours) == (name in TRAINING)


def test_the_help_of_a_task_is_that_of_its_own_options(
    helped: Callable[[str, str], tuple[str, set[str]]],
) -> None:
    text, _ = helped("train-classifier", "--help")
    assert "--unlabelled_file" not in text
    assert "--unlabelled_file" in helped("train-squad", "--help")[0]


@pytest.mark.parametrize("name", TRAINING)
def test_the_examples_are_the_last_thing_and_a_default_of_nothing_is_not_shown(
    name: str, helped: Callable[[str, str], tuple[str, set[str]]]
) -> None:
    text, _ = helped(name, "--help")
    _, _, examples = text.partition("\nexamples:\n")
    assert examples
    assert all(
        re.match(r"  (itrd-nlp|accelerate launch|python) ", line)
        for line in examples.strip("\n").splitlines()
    )
    assert "default: None" not in text


def test_the_options_of_a_task_are_those_that_the_task_takes() -> None:
    assert OPTIONS.keys() == TASKS.keys()
    for name in TASKS:
        task = task_named(name)
        assert options_of(name) == (task.arguments, task.answer_arguments)


def test_the_choices_of_options_are_those_of_the_losses() -> None:
    assert VIEWS == options.VIEWS
    assert INITS == options.PROJECTION_INITS


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["itrd-nlp", option])
    command.main()
    assert capsys.readouterr().out == f"itrd-nlp {__version__}\n"
