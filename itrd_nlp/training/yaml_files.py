"""YAML of configurations, read and written as the same values.

`read_config` reads a configuration and its bases, `dump_yaml` writes one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_text

# Of a configuration, or of the metadata of a card. An alias counts as all that it stands for.
MOST_CHARACTERS = 1_000_000
MOST_NODES = 100_000


class _YamlLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Plain scalars as in YAML 1.2, and no key twice.

    PyYAML reads YAML 1.1, in which `2e-4` is a text, `no` is false and `1:4` is 64: a learning rate, a strategy and
    a layer pair.
    """

    yaml_implicit_resolvers: ClassVar[dict[str | None, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # the base class refuses it
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class _YamlDumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Writes what `_YamlLoader` and PyYAML's own loaders read as the same values."""

    yaml_implicit_resolvers: ClassVar[dict[str | None, Any]] = {
        first: list(resolvers)
        for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True  # a value that is there twice is written twice

    def serialize(self, node: Any) -> None:
        node.flow_style = False  # the outermost mapping is never one line, {a: 1}
        super().serialize(node)


def _represent_text(dumper: _YamlDumper, text: str) -> yaml.ScalarNode:
    # Line breaks as \n, so that every text stands on one line.
    style = '"' if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_YamlDumper.add_representer(str, _represent_text)

for _tag, _pattern in {
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    for _reader in (
        _YamlLoader,
        _YamlDumper,
    ):  # the writer quotes a text that one of them takes for a number
        _reader.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), None
        )


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, its plain scalars read as in YAML 1.2.

    Raises:
        yaml.YAMLError: the text is no YAML, or too large or too deep for a configuration.
    """
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"it has more than {MOST_CHARACTERS:,} characters")
    loader = _YamlLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        # PyYAML's own readers of numbers, and of the types that a tag such as !!timestamp names
        raise yaml.YAMLError(f"a value cannot be read ({error})") from None
    finally:
        loader.dispose()


def _count(node: Any, known: dict[int, int]) -> int:
    """The number of nodes below a node and of itself, each alias as often as it is there.

    Args:
        node: of PyYAML.
        known: id of a node to its number; 0 while it is counted.

    Raises:
        yaml.YAMLError: there are too many, a node holds itself, or a text has half of a character.
    """
    if id(node) not in known:
        known[id(node)] = 0
        parts: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif not node.value.isascii() and re.search("[\ud800-\udfff]", node.value):
            raise yaml.YAMLError("a text has half of a character, such as \\ud800")
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    number = known[id(node)]
    if number == 0:
        raise yaml.YAMLError("an alias stands for a value that holds the alias")
    if number > MOST_NODES:
        raise yaml.YAMLError(f"it has more than {MOST_NODES:,} values, aliases written out")
    return number


def dump_yaml(content: Mapping[str, Any]) -> str:
    """A mapping as YAML, in the order of its keys; `read_yaml` and PyYAML both read it back to the same values.

    An option is one line, or one line for each part of its value.
    """
    return str(
        yaml.dump(
            dict(content),
            Dumper=_YamlDumper,
            default_flow_style=None,  # {a: 1} and [1, 2] on one line, what holds them on several
            sort_keys=False,
            allow_unicode=True,
            width=math.inf,
        )
    )


def read_yaml(file: str) -> dict[Any, Any]:
    """A mapping from a YAML file, its plain scalars read as in YAML 1.2.

    Raises:
        UserError: the file is missing, no YAML or no mapping.
    """
    if not os.path.lexists(file):
        raise UserError(
            f"{file} does not exist, but the first argument must be a YAML file or an option."
        )
    if os.path.isdir(file):
        raise UserError(f"{file} is a folder, but must be a YAML file.")
    text = read_text(file)
    try:
        content = parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{file} is not valid YAML: {error.problem}{line}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} must be a mapping of options to values, such as `seed: 1`.")
    return content


@dataclass(frozen=True)
class Config:
    """The values of a configuration, with those of its bases.

    Attributes:
        values: option to value. The file comes first, then its base, and so on.
        files: option to the file in which its value stands.
        chain: the file, its base, the base of its base, and so on.
    """

    values: dict[Any, Any]
    files: dict[Any, str]
    chain: tuple[str, ...]


def read_config(file: str, *, inherits: bool = True) -> Config:
    """Read a YAML file and its bases.

    `base: other.yaml` names another file, from the folder of the file in which this line stands. What a file says wins
    over its base, and `null` is a value as any other. A mapping or a list takes the place of that of the base; the two
    are not merged.

    Args:
        file: the YAML file.
        inherits: False where `base` is an option among others. The file is then read alone.

    Raises:
        UserError: one of the files is missing, no YAML or no mapping, or the bases form a circle.
    """
    values: dict[Any, Any] = {}
    files: dict[Any, str] = {}
    chain: list[str] = []
    following: str | None = file
    while following is not None:
        chain.append(following)
        content = read_yaml(following)
        following = _take_base(content, chain) if inherits else None
        for key, value in content.items():
            if key not in values:
                values[key], files[key] = value, chain[-1]
    return Config(values, files, tuple(chain))


def _take_base(content: dict[Any, Any], chain: Sequence[str]) -> str | None:
    """Remove `base` from the content of the last file of the chain, and return the path of the file that it names."""
    if "base" not in content:
        return None
    file, name = chain[-1], content.pop("base")
    if not isinstance(name, str):
        shown = "null" if name is None else repr(name)
        raise UserError(f"{file}: base is {shown}, but must be the path of a YAML file.")
    path = os.path.normpath(os.path.join(os.path.dirname(file), name))
    if not os.path.exists(path):
        raise UserError(
            f"{file}: base is {name!r}, but {path} does not exist; a base is named from the folder of its file."
        )
    if any(os.path.samefile(path, other) for other in chain):
        circle = " -> ".join([*chain, path])
        raise UserError(
            f"{file}: base is {name!r}, but the bases must not form a circle: {circle}."
        )
    return path
