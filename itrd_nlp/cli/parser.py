"""Command lines of the commands: dataclasses from a YAML file and flags, errors as one sentence.

def main() -> None:
    (args,) = parse([FetchArguments], description=__doc__)
    ...

itrd_nlp.cli.process.run(main)
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

from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers.hf_argparser import HfArgumentParser, string_to_bool

from itrd_nlp.cli.configs import find_base, find_config
from itrd_nlp.errors import UserError, did_you_mean
from itrd_nlp.files import MASK
from itrd_nlp.publish.privacy import keep_secrets_out, keep_tokens_out
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
        SystemExit: after ``--help`` and ``--help-all``.

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
    file = ""
    if arguments and not arguments[0].startswith("-"):
        file = find_config(arguments.pop(0))
        values = parser.read(file)
    namespace, unknown = parser.parse_known_args(arguments, argparse.Namespace(**values))
    if unknown:
        parser.refuse(unknown[0])
    parser.read_nulls(namespace)
    if "base" in parser.hints:
        namespace.base = find_base(namespace.base, file)
    built = tuple(_build(dataclass_type, namespace) for dataclass_type in dataclass_types)
    keep_tokens_out(*built)
    return built


def answer_help(
    groups: Sequence[type],
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    trains: bool = False,
) -> None:
    """Print the help of a command and end the process, where ``--help`` asks for it; else do nothing.

    A command whose arguments inherit from those of transformers, or belong to a task, calls this before it imports
    them: their modules load torch, which takes seconds.

    Args:
        groups: dataclasses with the options of the project, in the order of the help.
        description: as for `parse`.
        argv: the arguments. Default: those of the process.
        trains: whether the command takes the arguments of `transformers.TrainingArguments`, too.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "-h" not in arguments and "--help" not in arguments:
        return
    parser = _Parser(groups, description)
    parser.trains = trains
    parser.print_help()
    sys.exit(0)


def _build(dataclass_type: type, namespace: argparse.Namespace) -> Any:
    fields = dataclasses.fields(dataclass_type)
    for f in fields:
        if f.init and f.default != "" and getattr(namespace, f.name) == "":
            required = f.default is f.default_factory is dataclasses.MISSING
            raise UserError(
                f"{f.name} is empty, but must be a text{'' if required else ', or left out'}."
            )
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
            add_help=False,
        )
        self.add_argument("-h", "--help", action=_Help)
        self.add_argument("--help-all", action=_Help, dest=argparse.SUPPRESS)
        self.hints: dict[str, Any] = {}
        self.owners: dict[str, type] = {}
        self.trains = any(
            _foreign(c) for dataclass_type in self.dataclass_types for c in dataclass_type.__mro__
        )
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
                action.help = f"Set {action.dest} to false."
                continue
            if action.choices:
                action.metavar = "NAME" if len(list(action.choices)) > 8 else None
                continue
            members = _members(self.hints[action.dest])
            action.metavar = "BOOL" if bool in members else _METAVARS.get(action.type)
            if bool in members and action.nargs in (
                None,
                "?",
            ):  # as a flag, too, whatever its default
                action.nargs, action.const, action.type = "?", True, _true_or_false
            if str not in members and any(get_origin(member) is dict for member in members):
                action.type = _of_files_alone
            if type(None) in members:
                action.type = _or_null(action.type)

    def read(self, file: str) -> dict[str, Any]:
        """The values of a config file and its bases, each as the type of its field."""
        actions = {
            action.dest: action for action in reversed(self._actions) if action.dest in self.hints
        }
        values = {}
        config = read_config(file, inherits="base" not in self.hints)
        keep_secrets_out(config.values)  # before a sentence about another value quotes one
        for key, value in config.values.items():
            where = config.files[key]
            if key not in actions:
                raise UserError(
                    f"{where}: there is no option {key!r}{_suggestion(str(key), actions)}"
                )
            values[key] = _convert(where, key, value, self.hints[key], actions[key].choices)
            actions[key].required = False
        return values

    def read_nulls(self, namespace: argparse.Namespace) -> None:
        """Take ``null`` for None where an option takes several values, each of which was converted by itself."""
        for action in self._actions:
            found = getattr(namespace, action.dest, None)
            if action.nargs != "+" or not isinstance(found, list) or None not in found:
                continue
            if len(found) > 1:
                raise UserError(
                    f"--{action.dest} has null among other values, but must have it alone."
                )
            setattr(namespace, action.dest, None)

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
        raise UserError(re.sub(r"(--\w+)/--[\w-]+", r"\1", message).rstrip(".") + ".")

    def format_help(self, *, whole: bool = False) -> str:
        """What the command does, its options by the class that declares them, and its examples.

        Args:
            whole: the options of transformers, too.
        """
        groups: dict[type, list[argparse.Action]] = {}
        for action in self._actions:
            groups.setdefault(self.owners.get(action.dest, argparse.Action), []).append(action)
        groups.pop(argparse.Action)  # --help itself
        text, examples = _split(self.description or "")
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, [], [])
        formatter.add_text(text)
        for owner in sorted(groups, key=_foreign):
            if _foreign(owner) and not whole:
                continue
            title, about = _title(owner)
            formatter.start_section(title)
            formatter.add_text(about)
            formatter.add_arguments(groups[owner])
            formatter.end_section()
        if self.trains and not whole:
            formatter.add_text(_OF_TRANSFORMERS)
        if examples:
            formatter.start_section("examples")
            formatter.add_text(examples)
            formatter.end_section()
        return formatter.format_help()


_OF_TRANSFORMERS = """The options of transformers.TrainingArguments go here, too. --help-all lists them. The usual ones:
  --output_dir DIR, --num_train_epochs N or --max_steps N, --learning_rate R, --per_device_train_batch_size N,
  --bf16, --seed N, --resume_from_checkpoint true, --report_to tensorboard and --push_to_hub."""


class _Help(argparse.Action):
    """``--help``, and ``--help-all`` with the options of transformers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        assert isinstance(parser, _Parser)
        whole = "--help-all" in self.option_strings
        sys.stdout.write(parser.format_help(whole=whole))
        sys.exit(0)


def _foreign(owner: type) -> bool:
    return owner.__module__.startswith("transformers.")


def _title(owner: type) -> tuple[str, str]:
    """The heading of a group and the text below it: the first paragraph of the class's docstring."""
    if _foreign(owner):
        return f"transformers.{owner.__name__}", ""
    paragraph = (owner.__doc__ or "").partition("\n\n")[0]
    title, _, about = " ".join(paragraph.split()).partition(". ")
    return title.removesuffix("."), about


def _split(description: str) -> tuple[str, str]:
    """A description without its examples, which are indented by four spaces, and the examples."""
    paragraphs = description.split("\n\n")
    examples = [p for p in paragraphs if p.startswith("    ")]
    text = "\n\n".join(p for p in paragraphs if p not in examples)
    return text, "\n".join(inspect.cleandoc(example) for example in examples)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # Where nothing is the default, the help says what happens then, and an opposite has none.
        says_nothing = action.nargs == 0 or action.default is None or action.required
        return action.help if says_nothing else super()._get_help_string(action)

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


def _true_or_false(text: str) -> bool:
    try:
        return bool(string_to_bool(text))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} must be true or false") from None


def _of_files_alone(_: str) -> NoReturn:
    raise argparse.ArgumentTypeError("it is a mapping, which only a YAML file can give")


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
    except ValidationError as error:
        raise UserError(f"{file}: {_wrong_entry(key, value, hint, error)}.") from None
    except ValueError:
        raise UserError(f"{file}: {key} is {shown}, but must be {_type_name(hint)}.") from None


def _wrong_entry(key: str, value: Any, hint: Any, error: ValidationError) -> str:
    """Name the entry of a mapping that is wrong, such as ``methods.kd``, or else the whole value."""
    name, found, expected = key, value, hint
    for part in error.errors()[0]["loc"]:
        if get_origin(expected) is not dict or not isinstance(found, dict) or part not in found:
            break
        name, found, expected = f"{name}.{part}", found[part], get_args(expected)[1]
    shown = "null" if found is None else MASK if is_secret_name(name) else repr(found)
    return f"{name} is {shown}, but must be {_type_name(expected)}"


def _type_name(hint: Any) -> str:
    return " or ".join(_member_name(member) for member in _members(hint))


def _member_name(member: Any) -> str:
    if member is type(None):
        return "null"
    if get_origin(member) is dict:
        return "a mapping"
    return member.__name__ if isinstance(member, type) and not get_args(member) else str(member)
