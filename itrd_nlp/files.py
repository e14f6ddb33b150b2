"""Files that are whole or not there, and what goes wrong when one is read or written.

`replacing` and `replace_folder` write aside and rename. `seal` notes what a finished folder holds, and `damage` says
whether it still holds that. `writing` turns a full disk into one sentence. `read_config`
reads a configuration and its bases, `dump_yaml` writes one. What `keep_out` was told is in no text that `write_text`
writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import yaml
from safetensors import SafetensorError

from itrd_nlp.errors import UserError

# The words with which torch.save reports a full disk: a RuntimeError of its zip writer, or of C++ streams.
_TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "iostream")
MASK = "***"
MANIFEST_NAME = "manifest.json"
SHORTEST_SECRET = 8  # characters; a shorter one could be a part of any word
# One set for the process: a token is kept out of every file, whoever writes it and whatever it is about.
_KEPT_OUT: set[str] = set()


# ---- secrets ----


def keep_out(*secrets: str) -> None:
    """From now on write `MASK` in place of these. Texts of less than 8 characters are passed over."""
    _KEPT_OUT.update(str(secret) for secret in secrets if len(secret) >= SHORTEST_SECRET)


def kept_out() -> frozenset[str]:
    """All that `keep_out` was told in this process."""
    return frozenset(_KEPT_OUT)


def without(text: str, secrets: Iterable[str]) -> str:
    """A text with `MASK` in place of each of the secrets.

    They are looked for as they are: a token is made of characters that neither JSON nor HTML nor YAML escapes.
    """
    for secret in sorted(secrets, key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, MASK)
    return text


# ---- writing ----


@contextlib.contextmanager
def writing(path: Path, then: str = "") -> Iterator[None]:
    """Turn what a full or read-only disk raises into one sentence about `path`.

    Args:
        path: the file or folder that is being written.
        then: a sentence to add, for example about files that are still there.

    Raises:
        UserError: writing failed.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno:
            reason = os.strerror(error.errno)
        elif isinstance(error, RuntimeError) and any(name in str(error) for name in _TORCH_WRITER):
            reason = "torch.save could not write its file, as on a full disk"
        elif isinstance(error, RuntimeError):
            raise
        else:
            reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path} cannot be written: {reason}. {then}".strip()) from error


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a new file that takes the place of `path` when the body ends without an exception.

    Until then it lies under a name of its own in the same folder. After an exception it is removed, and `path` is as it
    was.

    Args:
        path: the file to write or to replace.
        mode: ``w`` for text in UTF-8, ``wb`` for bytes.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it, so that it is whole or not there.

    What `keep_out` was told is masked.
    """
    with replacing(path) as file:
        file.write(without(text, _KEPT_OUT))


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file under a temporary name and rename it, so that it is whole or not there."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def replace_folder(staged: Path, final: Path) -> None:
    """Move a finished folder to its final name. A folder that was there is replaced, and never half there."""
    replaced = final.with_name(f".replaced-{final.name}")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    staged.rename(final)
    to_disk(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def to_disk(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- folders with a seal ----


def seal(folder: Path) -> None:
    """Write the manifest of a folder, size and sha256 of every file, and bring all of it to the disk."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST_NAME):
        files[str(path.relative_to(folder))] = {
            "size": path.stat().st_size,
            "sha256": sha256(path),
        }
        to_disk(path)
    manifest = folder / MANIFEST_NAME
    write_text(manifest, json.dumps(files, indent=1) + "\n")
    to_disk(manifest)
    to_disk(folder)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if it is as it was written."""
    if not folder.is_dir():
        return "it is no folder"
    manifest = folder / MANIFEST_NAME
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST_NAME}, so it was not written to its end"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST_NAME} cannot be read"
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if sha256(path) != digest:
            return f"{name} does not have the contents it was written with"
    return None


# ---- reading ----


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_record(path: str | Path, **counts: int) -> dict[str, Any]:
    """The name of a data file without its folders, its sha256, and how much of it was read."""
    return {"name": Path(path).name, "sha256": sha256(Path(path)), **counts}


class _YamlLoader(yaml.SafeLoader):
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


class _YamlDumper(yaml.SafeDumper):
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
        yaml.YAMLError: the text is no YAML.
    """
    return yaml.load(text, Loader=_YamlLoader)


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
    try:
        content = parse_yaml(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{file} does not exist, but the first argument must be a YAML file or an option."
        ) from None
    except IsADirectoryError:
        raise UserError(f"{file} is a folder, but must be a YAML file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not text in UTF-8, but must be a YAML file.") from None
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
    """What a configuration says, its bases included.

    Attributes:
        values: option to value: what the file itself says, then what it leaves to its base, and so on.
        files: option to the file in which its value stands.
        chain: the file, its base, the base of its base, and so on.
    """

    values: dict[Any, Any]
    files: dict[Any, str]
    chain: tuple[str, ...]


def read_config(file: str, *, inherits: bool = True) -> Config:
    """Read a YAML file and what it leaves to its base.

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
