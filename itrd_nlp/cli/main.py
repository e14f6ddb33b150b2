"""The console command `itrd-nlp`: a sub-command for each script.

    itrd-nlp train-squad configs/squad_minilm_t3.yaml --seed 1
    python scripts/train_squad.py configs/squad_minilm_t3.yaml --seed 1

do the same. Every file in the folder of the scripts is a sub-command, described by the first line of its docstring.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
from pathlib import Path

_SHORTER = {"fetch_offline_assets": "fetch-assets"}


def main() -> None:
    """Run the sub-command that `sys.argv` names; without one, or with --help, list them all.

    Exit codes are those of `itrd_nlp.cli.run`; 2 for a name that is none.
    """
    scripts = subcommands()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(_help(scripts))
        return
    if name not in scripts:
        close = difflib.get_close_matches(name, scripts, n=1)
        hint = f"did you mean {close[0]}?" if close else "itrd-nlp --help lists them."
        print(f"error: there is no command {name!r}; {hint}", file=sys.stderr)
        sys.exit(2)

    from itrd_nlp import cli  # imports transformers, which the list does not need

    # What the script takes for its own name, in its help and in the command that it records.
    sys.argv = [f"itrd-nlp {name}", *sys.argv[2:]]
    cli.run(importlib.import_module(f"itrd_nlp.scripts.{scripts[name].stem}").main)


def subcommands() -> dict[str, Path]:
    """Name of each sub-command to the file of its script, sorted."""
    package = importlib.util.find_spec("itrd_nlp.scripts")
    assert package is not None and package.submodule_search_locations is not None
    (folder,) = package.submodule_search_locations
    names = {
        _SHORTER.get(path.stem, path.stem.replace("_", "-")): path
        for path in Path(folder).glob("*.py")
        if path.stem != "__init__"
    }
    return dict(sorted(names.items()))


def _help(scripts: dict[str, Path]) -> str:
    width = max(map(len, scripts)) + 2
    lines = [f"  {name:<{width}}{_summary(path)}" for name, path in scripts.items()]
    return "\n".join(
        [
            "usage: itrd-nlp COMMAND [CONFIG.yaml] [--option value ...]",
            "",
            *lines,
            "",
            "itrd-nlp COMMAND --help explains a command and lists its options.",
        ]
    )


def _summary(path: Path) -> str:
    """The first line of the docstring, read without running the script."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]
