"""Models and data that are not there yet, and the commands that make them.

A model that does not exist on this machine may be an id of the Hub. But the folder that a config of the package trains
a model into, or that `fetch-assets` fills, is none, so that nobody is asked about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from itrd_nlp.cli.configs import packaged_configs
from itrd_nlp.errors import UserError
from itrd_nlp.tasks.offline_assets import ASSETS
from itrd_nlp.training.yaml_files import read_config

MODELS = ("teacher", "student", "more_teachers", "model_name_or_path", "model")
"""Arguments that name models. Those of data end in ``_file``."""


def check_local_paths(arguments: Mapping[str, Any]) -> None:
    """Refuse a model or a data file that is missing and that a command of the package makes.

    Args:
        arguments: name of an argument to its value; others than models and data are passed over.

    Raises:
        UserError: names the argument, the path and the command.
    """
    for name, value in arguments.items():
        if name not in MODELS and not name.endswith("_file"):
            continue
        for path in value if isinstance(value, list) else [value]:
            if not isinstance(path, str) or Path(path).exists():
                continue
            command = _maker(path)
            if command is not None:
                raise UserError(f"{name} {path} does not exist; this makes it: {command}")


def arguments_of(groups: Iterable[Any]) -> dict[str, Any]:
    """The arguments in dataclasses, as `check_local_paths` takes them."""
    return {name: value for group in groups for name, value in vars(group).items()}


def _maker(path: str) -> str | None:
    """The command that makes a path of the package's configs, None where none does."""
    top, _, rest = Path(path).as_posix().partition("/")
    name = rest.partition("/")[0]
    if top == "assets" and name in ASSETS:
        return f"itrd-nlp fetch-assets --assets {name}"
    if top == "assets" and name == "classification":
        return "itrd-nlp make-classification-data"
    if top == "assets" and name == "answerless":
        return "itrd-nlp make-answerless-questions --output_dir assets/answerless"
    if top == "assets" and name == "ranking":
        return "itrd-nlp make-ranking-data"
    if top == "assets" and name == "plain_text":
        return "itrd-nlp make-plain-text"
    for config, file in packaged_configs().items():
        if file.parent.name in ("accelerate", "compare", "shared"):
            continue
        values = read_config(str(file)).values
        if Path(str(values.get("output_dir"))) == Path(path):
            return f"itrd-nlp {_command(config, values, file)} {config}"
    return None


def _command(config: str, values: Mapping[str, Any], file: Path) -> str:
    if "task" in values:
        return "distil" if "teacher" in values else "fine-tune"
    classifies = file.parent.name in ("classification", "glue", "ner")
    if "teacher" not in values:
        return "train-classifier" if classifies else "train-teacher"
    if config.startswith("textbrewer"):
        return "train-textbrewer"
    return "distil-classifier" if classifies else "train-squad"
