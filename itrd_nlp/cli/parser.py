"""Command lines of the scripts: dataclasses from a YAML file and flags, errors as one sentence.

def main() -> None:
    (args,) = cli.parse([FetchArguments], description=__doc__)
    ...

if __name__ == "__main__":
    cli.run(main)
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import errno
import inspect
import os
import re
import shlex
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter
from transformers.hf_argparser import HfArgumentParser

from itrd_nlp.errors import TrainingDiverged, TrainingInterrupted, UserError
from itrd_nlp.memory import keep_freed_memory

_PYDANTIC = ConfigDict(coerce_numbers_to_str=True, arbitrary_types_allowed=True)
_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "TEXT"}
_USUAL_OS_ERRORS = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def parse(
    dataclass_types: Sequence[type],
    argv: Sequence[str] | None = None,
    *,
    description: str | None = None,
) -> tuple[Any, ...]:
    """Fill dataclasses from ``[CONFIG.yaml] [--field value ...]``.

    The YAML file is one mapping from field names to values, and may hold fields of every dataclass. A flag wins over
    the file, the file over the default. ``--field null`` sets a field that may be None to None.

    Args:
        dataclass_types: What to fill. No two of them may have a field of the same name.
        argv: The arguments; default: those of the process.
        description: Text above the options in ``--help``.

    Returns:
        One instance a dataclass, in the same order.

    Raises:
        UserError: a file, a key, a flag or a value that makes no sense. A ValueError of a ``__post_init__`` becomes
            one, too.
        SystemExit: after ``--help``.

    Example:
        >>> @dataclasses.dataclass
        ... class Arguments:
        ...     learning_rate: float = 1e-4
        >>> parse([Arguments], ["--learning_rate", "2e-4"])
        (Arguments(learning_rate=0.0002),)
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(dataclass_types, description)
    values: dict[str, Any] = {}
    if arguments and not arguments[0].startswith("-"):
        values = parser.read(arguments.pop(0))
    namespace, unknown = parser.parse_known_args(arguments, argparse.Namespace(**values))
    if unknown:
        parser.refuse(unknown[0])
    return tuple(_build(dataclass_type, namespace) for dataclass_type in dataclass_types)


def run(main: Callable[[], object]) -> None:
    """Call the main function of a script; turn what a user can mend into one sentence on stderr and exit code 2.

    That is a `UserError`, and a file or folder that cannot be read or written (missing, no permission, disk full).
    A training that a signal stopped exits with 128 + its number and says how to resume; one whose loss is no number
    exits with 1. Every other exception is a bug, or somebody else's, and keeps its traceback.

    Memory is kept from the kernel for the whole process, see `itrd_nlp.memory`.
    """
    keep_freed_memory()
    try:
        main()
        _leave_process_group()
    except UserError as error:
        # Each process of a distributed run meets the same bad input.
        _fail(str(error) if os.environ.get("RANK", "0") == "0" else None)
    except TrainingDiverged as error:
        _fail(str(error), code=1)
    except TrainingInterrupted as stop:
        resume = f"{command_line()} --resume_from_checkpoint true"
        if os.environ.get("RANK", "0") == "0":
            print(f"{stop} To resume: {resume}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    except OSError as error:
        if error.errno not in _USUAL_OS_ERRORS:
            raise
        _fail(f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}.")
    except KeyboardInterrupt:
        sys.exit(130)


def _leave_process_group() -> None:
    """What NCCL warns of where it is not done. Scripts that never loaded torch do not load it for this."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()


def command_line() -> str:
    """The command of this process as it was typed, quoted for a shell.

    Absolute paths below the current folder are written relative to it, and a script elsewhere loses its folder, so
    that the record of a run holds no names of users or machines from there. A token is left out.
    """
    script, *arguments = sys.argv
    for i, argument in enumerate(arguments):
        if re.match(r"--\w*token=", argument):
            arguments[i] = argument.partition("=")[0] + "=***"
        elif i and re.fullmatch(r"--\w*token", arguments[i - 1]):
            arguments[i] = "***"
    script = _relative(script)
    if os.path.isabs(script):
        script = os.path.basename(script)
    # A sub-command, such as `itrd-nlp train-squad`, is two words.
    words = script.split(" ") if script.startswith("itrd-nlp ") else [script]
    return shlex.join([*words, *(_relative(argument) for argument in arguments)])


def record() -> dict[str, Any]:
    """What a run remembers of how it was started.

    Returns:
        ``command``, and ``config`` with the name and the text of the YAML file, if there was one.
    """
    started: dict[str, Any] = {"command": command_line()}
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        path = Path(sys.argv[1])
        text = re.sub(r"(?m)^(\w*token\s*:).*$", r"\1 ***", path.read_text(encoding="utf-8"))
        started["config"] = {"name": path.name, "text": text}
    return started


def _relative(argument: str) -> str:
    if not os.path.isabs(argument):
        return argument
    path = os.path.normpath(argument)
    here = os.getcwd()
    return os.path.relpath(path, here) if Path(path).is_relative_to(here) else argument


def _fail(sentence: str | None, code: int = 2) -> NoReturn:
    if sentence is not None:
        print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)


def _build(dataclass_type: type, namespace: argparse.Namespace) -> Any:
    fields = dataclasses.fields(dataclass_type)
    try:
        return dataclass_type(**{f.name: getattr(namespace, f.name) for f in fields if f.init})
    except UserError:
        raise
    except ValueError as error:
        raise UserError(" ".join(str(error).split())) from error


class _Parser(HfArgumentParser):
    """`HfArgumentParser` with a config file in front, errors as `UserError` and a help by dataclass."""

    def __init__(self, dataclass_types: Sequence[Any], description: str | None) -> None:
        super().__init__(
            dataclass_types,
            description=(description or "").strip(),
            usage="%(prog)s [CONFIG.yaml] [--option value ...]",
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        self.hints: dict[str, Any] = {}
        self.owners: dict[str, type] = {}
        for dataclass_type in self.dataclass_types:
            for name, hint in get_type_hints(dataclass_type).items():
                self.hints[name] = hint
                self.owners[name] = next(
                    c for c in dataclass_type.__mro__ if name in inspect.get_annotations(c)
                )
        for action in self._actions:
            if action.dest not in self.hints:
                continue
            # argparse formats the text: a % must be doubled, which not every author knows.
            action.help = re.sub("%%?", "%%", action.help or "")
            if action.nargs == 0:
                continue
            if action.choices:
                action.metavar = "NAME" if len(list(action.choices)) > 8 else None
                continue
            members = _members(self.hints[action.dest])
            action.metavar = "BOOL" if bool in members else _METAVARS.get(action.type)
            if type(None) in members and action.nargs != "+":
                action.type = _or_null(action.type)

    def read(self, file: str) -> dict[str, Any]:
        """The values of a config file, each as the type of its field."""
        actions = {
            action.dest: action for action in reversed(self._actions) if action.dest in self.hints
        }
        values = {}
        for key, value in read_yaml(file).items():
            if key not in actions:
                raise UserError(
                    f"{file}: there is no option {key!r}{_suggestion(str(key), actions)}"
                )
            values[key] = _convert(file, key, value, self.hints[key], actions[key].choices)
            actions[key].required = False
        return values

    def refuse(self, argument: str) -> NoReturn:
        """Complain about an argument that is no option."""
        if not argument.startswith("-"):
            raise UserError(
                f"{argument!r} is neither an option nor the value of one; a config file must come first."
            )
        flag = argument.partition("=")[0]
        options = [action.option_strings[0] for action in self._actions]
        raise UserError(f"there is no option {flag}{_suggestion(flag.replace('-', '_'), options)}")

    def error(self, message: str) -> NoReturn:
        # argparse names both spellings, --field_name/--field-name; one is enough.
        raise UserError(re.sub(r"(--\w+)/--[\w-]+", r"\1", message) + ".")

    def format_help(self) -> str:
        """Options by the class that declares them, those of transformers at the end."""
        groups: dict[type, list[argparse.Action]] = {}
        for action in self._actions:
            groups.setdefault(self.owners.get(action.dest, argparse.Action), []).append(action)
        groups.pop(argparse.Action)  # --help itself
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, [], [])
        formatter.add_text(self.description)
        for owner in sorted(groups, key=lambda c: c.__module__.startswith("transformers.")):
            foreign = owner.__module__.startswith("transformers.")
            formatter.start_section(f"transformers.{owner.__name__}" if foreign else owner.__name__)
            if not foreign:
                formatter.add_text((owner.__doc__ or "").partition("\n\n")[0])
            formatter.add_arguments(groups[owner])
            formatter.end_section()
        return formatter.format_help()


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _format_action_invocation(self, action: argparse.Action) -> str:
        # One spelling and one metavar: `--field_name INT`, not `--field_name INT, --field-name INT`.
        values = "" if action.nargs == 0 else self._format_args(action, action.dest.upper())
        return f"{action.option_strings[0]} {values}".rstrip()


def _members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, else the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _or_null(convert: Any) -> Callable[[str], Any]:
    def converted(text: str) -> Any:
        return None if text == "null" else convert(text)

    converted.__name__ = convert.__name__  # argparse shows it where a value is refused
    return converted


def _suggestion(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else "; --help lists them."


def _convert(file: str, key: str, value: Any, hint: Any, choices: Iterable[Any] | None) -> Any:
    """A value from YAML as the type of its field."""
    members = _members(hint)
    shown = "null" if value is None else repr(value)
    if choices and not (value is None and type(None) in members):
        allowed = [str(choice) for choice in choices]
        if any(str(v) not in allowed for v in (value if isinstance(value, list) else [value])):
            raise UserError(f"{file}: {key} is {shown}, but must be one of {', '.join(allowed)}.")
    only_lists = any(get_origin(m) is list for m in members) and str not in members
    if only_lists and isinstance(value, str | int | float):
        value = [value]  # as on the command line, where one value makes a list, too
    only_numbers = not {int, float}.isdisjoint(members) and bool not in members
    try:
        if only_numbers and isinstance(value, bool):  # pydantic would read true as 1
            raise ValueError
        return TypeAdapter(hint, config=_PYDANTIC).validate_python(value)
    except ValueError:  # pydantic's ValidationError is one, too
        expected = " or ".join("null" if m is type(None) else _type_name(m) for m in members)
        raise UserError(f"{file}: {key} is {shown}, but must be {expected}.") from None


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


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
                continue  # refused below
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


for _tag, _pattern in {
    "null": r"null|Null|NULL|~|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    _YamlLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), None
    )


def read_yaml(file: str) -> dict[Any, Any]:
    """A mapping from a YAML file, its plain scalars read as in YAML 1.2.

    Raises:
        UserError: the file is missing, no YAML or no mapping.
    """
    try:
        content = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=_YamlLoader)
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
