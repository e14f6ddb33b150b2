"""The console command `itrd-nlp`, one sub-command for each file of `itrd_nlp.cli.commands`.

    itrd-nlp train-squad configs/minilm/minilm_t3.yaml --seed 1
    python -m itrd_nlp train-squad configs/minilm/minilm_t3.yaml --seed 1
    python scripts/train_squad.py configs/minilm/minilm_t3.yaml --seed 1

do the same. A config of the package goes by its name, too: `itrd-nlp train-squad minilm_t3 --seed 1`, in any folder.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from itrd_nlp import __version__
from itrd_nlp.errors import did_you_mean

_COMMANDS = Path(__file__).parent / "commands"
# scripts/evaluate.py would hide the library `evaluate` from the other scripts.
_SHORTER = {"evaluate_model": "evaluate", "fetch_offline_assets": "fetch-assets"}


def main() -> None:
    """Run the sub-command that `sys.argv` names; without one, or with --help, list them all. --version prints it.

    Exit codes are those of `itrd_nlp.cli.process.run`; 2 for a name that is none.
    """
    commands = subcommands()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(_help(commands))
        return
    if name in ("-V", "--version"):
        print(f"itrd-nlp {__version__}")
        return
    if name not in commands:
        hint = did_you_mean(name, commands, "; itrd-nlp --help lists them.")
        print(f"error: there is no command {name!r}{hint}", file=sys.stderr)
        sys.exit(2)
    # The help of the command and the record of the run show this name.
    sys.argv = [f"itrd-nlp {name}", *sys.argv[2:]]
    run_command(name)


def run_command(name: str) -> None:
    """Run a sub-command with the arguments in `sys.argv`, as the scripts do."""
    from itrd_nlp.cli import (
        process,  # imports transformers, which the list of commands does not need
    )

    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[name].stem}")
    process.run(module.main)


def subcommands() -> dict[str, Path]:
    """Name of each sub-command to its file, sorted."""
    names = {
        _SHORTER.get(path.stem, path.stem.replace("_", "-")): path
        for path in _COMMANDS.glob("*.py")
        if path.stem != "__init__"
    }
    return dict(sorted(names.items()))


def _help(commands: dict[str, Path]) -> str:
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{_summary(path)}" for name, path in commands.items()]
    return "\n".join(
        [
            "usage: itrd-nlp COMMAND [CONFIG.yaml] [--option value ...]",
            "",
            *lines,
            "",
            "itrd-nlp COMMAND --help explains a command and lists its options.",
            "itrd-nlp --version prints the version.",
            "CONFIG.yaml is a file, or the name of a config of the package; itrd-nlp show-config lists them.",
        ]
    )


def _summary(path: Path) -> str:
    """The first line of the docstring, read without running the command."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]
