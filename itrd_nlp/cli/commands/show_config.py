"""Print the whole of a config, its bases included; without an argument, list the configs of the package.

    itrd-nlp show-config minilm_t3
    itrd-nlp show-config my_experiment.yaml > whole.yaml

What a base says has the name of that base behind it. The output is a config itself, and that of a training needs no
other file. A token or a password is left out.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli.configs import find_base, find_config, packaged_configs, summary
from itrd_nlp.cli.parser import parse
from itrd_nlp.publish.privacy import without_secrets
from itrd_nlp.training.yaml_files import dump_yaml, read_config, read_yaml


@dataclass
class ShowArguments:
    """The config."""

    config: str | None = field(
        default=None,
        metadata={
            "help": "YAML file, or the name of a config of the package; --config may be left out."
        },
    )


def main() -> None:
    arguments = sys.argv[1:]
    if arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--config")  # where other commands take a config, and this one, too
    (args,) = parse([ShowArguments], arguments, description=__doc__)
    lines = _list() if args.config is None else _whole(find_config(args.config))
    print(*lines, sep="\n")


def _whole(file: str) -> Iterator[str]:
    # A comparison is the one kind of config in which `base` is an option. It alone has methods.
    config = read_config(file, inherits="methods" not in read_yaml(file))
    for key, value in without_secrets(config.values).items():
        if key == "base":
            value = find_base(value, file)
        first, *others = dump_yaml({key: value}).splitlines()
        where = config.files[key]
        yield first if where == file else f"{first}  # {Path(where).name}"
        yield from others


def _list() -> Iterator[str]:
    configs = packaged_configs()
    width = max(map(len, configs)) + 2
    for folder, names in itertools.groupby(configs, lambda name: configs[name].parent.name):
        yield f"{folder}:"
        for name in names:
            yield f"  {name:<{width}}{summary(configs[name])}"
