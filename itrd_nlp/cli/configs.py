"""The configs of the package, which go by their names.

In a checkout they lie in `configs/`, beside the package; an installed package has them inside.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import itrd_nlp
from itrd_nlp.errors import UserError, did_you_mean
from itrd_nlp.files import read_text

_PACKAGE = Path(itrd_nlp.__file__).parent


def packaged_configs() -> dict[str, Path]:
    """Name of each config of the package to its file, folder by folder.

    Paths below the current folder are relative to it, so that messages are short and records name no machine's folders.
    """
    installed = _PACKAGE / "configs"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    return {path.stem: _shortest(path) for path in sorted(folder.glob("**/*.yaml"))}


def find_config(argument: str) -> str:
    """The file that the first argument of a command names: a path, or the name of a config of the package.

    Raises:
        UserError: there is no such file and no such name.
    """
    if os.path.isfile(argument):
        return argument
    configs = packaged_configs()
    if argument in configs:
        return str(configs[argument])
    if os.path.exists(argument):
        return argument  # a folder, about which the reader of the file has a sentence
    raise UserError(
        f"{argument} does not exist, but the first argument must be a YAML file, the name of a config or an option"
        f"{_suggestion(Path(argument).stem, list(configs))}"
    )


def find_base(base: str, file: str) -> str:
    """The config that the trainings of a comparison share.

    Args:
        base: its path from the current folder or from that of the comparison, or the name of a config of the package.
        file: the file of the comparison. It is empty where the command line alone describes it.

    Returns:
        The path of the first one that is there, or ``base`` itself where none is.
    """
    beside = Path(os.path.normpath(Path(file).parent / base))
    if os.path.isfile(base):
        return base
    if beside.is_file():
        return str(_shortest(beside))
    return str(packaged_configs().get(base, base))


def summary(path: Path) -> str:
    """The first sentence of the comment at the head of a config."""
    lines = read_text(path).splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comment = " ".join(line.removeprefix("#").strip() for line in lines[:count])
    return re.split(r"(?<=[.?])\s", comment, maxsplit=1)[0]


def _suggestion(stem: str, names: list[str]) -> str:
    # `teacher_minilm` for `minilm_teacher` is a likely mistake, and no close match by its letters.
    words = sorted(stem.split("_"))
    same = [name for name in names if sorted(name.split("_")) == words]
    listed = "; itrd-nlp show-config lists the names."
    return f"; did you mean {same[0]}?" if same else did_you_mean(stem, names, listed, most=2)


def _shortest(path: Path) -> Path:
    here = Path.cwd()
    return path.absolute().relative_to(here) if path.absolute().is_relative_to(here) else path
