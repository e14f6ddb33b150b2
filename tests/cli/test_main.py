"""The console command: every script is a sub-command, listed without loading anything heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from itrd_nlp.cli import main as command
from itrd_nlp.cli import process

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "itrd_nlp" / "cli" / "commands"
COMMANDS = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


def run(*arguments: str, code: str = "from itrd_nlp.cli.main import main; main()") -> str:
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
        check=True,
    )
    return process.stdout


def test_every_file_of_the_commands_is_a_subcommand_and_has_a_script() -> None:
    assert sorted(command.subcommands().values()) == COMMANDS
    assert [path.name for path in SCRIPTS] == [path.name for path in COMMANDS]
    names = {"evaluate-squad", "fetch-assets", "predict", "train-squad", "train-teacher"}
    assert names <= set(command.subcommands())


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_names_its_command_and_does_nothing_else(path: Path) -> None:
    summary, imported, call = ast.parse(path.read_text(encoding="utf-8")).body
    ran = COMMANDS[[command.stem for command in COMMANDS].index(path.stem)]
    names = {file: name for name, file in command.subcommands().items()}
    assert ast.unparse(call) == f"run_command({names[ran]!r})"
    assert ast.unparse(imported) == "from itrd_nlp.cli.main import run_command"
    assert ast.unparse(summary) == ast.unparse(ast.Expr(ast.Constant(_first_line(ran))))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_the_first_example_of_a_command_needs_no_clone(path: Path) -> None:
    """Who installed the package by pip has no folder scripts/."""
    names = {file: name for name, file in command.subcommands().items()}
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    examples = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert examples[0].startswith(f"itrd-nlp {names[path]}")


def test_python_m_is_the_same_command() -> None:
    code = "import runpy, sys; sys.argv[0] = 'x'; runpy.run_module('itrd_nlp', run_name='__main__')"
    assert run("--help", code=code) == run("--help")


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_every_command_has_a_main_and_a_first_line_that_fits_the_list(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    summary = _first_line(path)
    assert summary.endswith(".")
    assert len(summary) <= 110


def test_the_list_has_a_line_for_each_and_needs_neither_torch_nor_transformers() -> None:
    code = """
import sys
from itrd_nlp.cli.main import main
main()
print("loaded:", *({"torch", "transformers", "datasets", "pydantic"} & set(sys.modules)))
"""
    listed = run("--help", code=code)
    for name, path in command.subcommands().items():
        summary = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]
        assert f"  {name} " in listed
        assert summary in listed
    assert listed.splitlines()[-1].strip() == "loaded:"


def test_no_argument_and_help_print_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = set()
    for arguments in ([], ["-h"], ["--help"]):
        monkeypatch.setattr(sys, "argv", ["itrd-nlp", *arguments])
        command.main()
        printed.add(capsys.readouterr().out)
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("train-sqad", "did you mean train-squad?"),
        ("predict.py", "did you mean predict?"),
        ("zzz", "itrd-nlp --help lists them."),
    ],
)
def test_an_unknown_name_is_one_sentence_and_exit_code_2(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["itrd-nlp", name])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: there is no command {name!r}; {hint}\n"


def test_a_subcommand_runs_its_file_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    script = types.ModuleType("itrd_nlp.cli.commands.train_squad")
    script.main = lambda: seen.update(argv=sys.argv, command=process.command_line())
    monkeypatch.setitem(sys.modules, script.__name__, script)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/itrd-nlp", "train-squad", "a b.yaml", "--x"])
    command.main()
    assert seen["argv"] == ["itrd-nlp train-squad", "a b.yaml", "--x"]
    assert seen["command"] == "itrd-nlp train-squad 'a b.yaml' --x"


def test_help_and_errors_of_a_subcommand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["itrd-nlp", "fetch-assets", "--help"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert not stop.value.code
    assert capsys.readouterr().out.startswith("usage: itrd-nlp fetch-assets [CONFIG.yaml] ")

    monkeypatch.setattr(sys, "argv", ["itrd-nlp", "fetch-assets", "--output_folder", "x"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    assert "did you mean --output_dir" in capsys.readouterr().err
