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
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter
from transformers.hf_argparser import HfArgumentParser

from itrd_nlp.cli.configs import find_base, find_config
from itrd_nlp.errors import UserError, did_you_mean
from itrd_nlp.files import MASK
from itrd_nlp.publish.privacy import keep_tokens_out
from itrd_nlp.training.ranges import check_values
from itrd_nlp.training.secrets import is_secret_name
from itrd_nlp.training.yaml_files import read_config

_PYDANTIC = ConfigDict(coerce_numbers_to_str=True, arbitrary_types_allowed=True)
_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "TEXT"}


def parse(
    dataclass_types: Sequence[type],
    argv: Sequence[str] | None = None,
    *,
    description: str | None = None,
) -> tuple[Any, ...]:
    """Fill dataclasses from ``[CONFIG.yaml] [--field value ...]``.

    The YAML file is one mapping from field names to values, and may hold fields of every dataclass. A flag wins over
    the file, the file over its ``base``, which is another YAML file, and the base over the default. ``--field null``
    sets a field that may be None to None. A config of the package goes by its name, without folder and ending. Where
    a dataclass has a field named ``base``, this key is its value and nothing is inherited.

    Args:
        dataclass_types: the dataclasses to fill. No two of them may have a field of the same name.
        argv: the arguments. Default: those of the process.
        description: text above the options in ``--help``.

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
        values = parser.read(find_config(arguments.pop(0)))
    namespace, unknown = parser.parse_known_args(arguments, argparse.Namespace(**values))
    if unknown:
        parser.refuse(unknown[0])
    built = tuple(_build(dataclass_type, namespace) for dataclass_type in dataclass_types)
    keep_tokens_out(*built)
    return built


def _build(dataclass_type: type, namespace: argparse.Namespace) -> Any:
    fields = dataclasses.fields(dataclass_type)
    try:
        built = dataclass_type(**{f.name: getattr(namespace, f.name) for f in fields if f.init})
    except UserError:
        raise
    except (ValueError, TypeError, LookupError, ImportError, RuntimeError, OverflowError) as error:
        # Those of transformers, which has arguments of all kinds and checks them in all ways.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(reason) from error
    check_values(built)
    return built


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
        """The values of a config file and its bases, each as the type of its field."""
        actions = {
            action.dest: action for action in reversed(self._actions) if action.dest in self.hints
        }
        values = {}
        config = read_config(file, inherits="base" not in self.hints)
        for key, value in config.values.items():
            where = config.files[key]
            if key not in actions:
                raise UserError(
                    f"{where}: there is no option {key!r}{_suggestion(str(key), actions)}"
                )
            values[key] = _convert(where, key, value, self.hints[key], actions[key].choices)
            actions[key].required = False
        if "base" in values:
            values["base"] = find_base(values["base"], file)
        return values

    def refuse(self, argument: str) -> NoReturn:
        """Complain about an argument that is no option."""
        if not argument.startswith("-"):
            raise UserError(
                f"{argument!r} is neither an option nor the value of one; a config file must come first."
            )
        flag = argument.partition("=")[0]
        # Without the dashes, which are alike in all of them.
        options = [action.option_strings[0].removeprefix("--") for action in self._actions]
        asked = flag.lstrip("-").replace("-", "_")
        raise UserError(f"there is no option {flag}{_suggestion(asked, options, prefix='--')}")

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


def _suggestion(name: str, names: Iterable[str], *, prefix: str = "") -> str:
    return did_you_mean(name, names, "; --help lists them.", most=3, prefix=prefix)


def _convert(file: str, key: str, value: Any, hint: Any, choices: Iterable[Any] | None) -> Any:
    """A value from YAML as the type of its field."""
    members = _members(hint)
    shown = "null" if value is None else MASK if is_secret_name(key) else repr(value)
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
