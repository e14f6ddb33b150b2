"""Every number that a command takes has a range, and what is outside of it is one sentence before any work."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from itrd_nlp.cli import parser
from itrd_nlp.cli.main import subcommands
from itrd_nlp.compare.arguments import CompareArguments
from itrd_nlp.errors import UserError
from itrd_nlp.tasks import TASKS
from itrd_nlp.training.arguments import OF_TRANSFORMERS
from itrd_nlp.training.ranges import LARGEST, Range, check_values
from itrd_nlp.training.roles import Metadata

# They parse no arguments of ours: the first hands them on.
WITHOUT = {"launch"}


def groups_of(command: str, *arguments: str) -> list[type]:
    """The dataclasses that a command parses its arguments into."""
    found: list[type] = []

    class Seen(Exception):
        pass

    def see(_: Any, dataclass_types: Any, description: str | None) -> None:
        found.extend(dataclass_types)
        raise Seen

    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[command].stem}")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Seen):
        patch.setattr(parser._Parser, "__init__", see)
        patch.setattr("sys.argv", [f"itrd-nlp {command}", *arguments])
        module.main()
    return found


def all_groups() -> list[type]:
    by_task = [
        groups_of(command, "--task", task)
        for command in ("distil", "fine-tune", "evaluate", "predict", "export-onnx")
        for task in TASKS
    ]
    alone = [groups_of(command) for command in subcommands() if command not in WITHOUT]
    return list(dict.fromkeys(group for groups in (*by_task, *alone) for group in groups))


GROUPS = all_groups()


def types_in(hint: Any) -> Iterator[Any]:
    """The types of a hint, those inside of unions, lists and mappings too."""
    if not get_args(hint):
        yield hint
    for part in get_args(hint):
        yield from types_in(part)


def numbers(group: type) -> Iterator[tuple[dataclasses.Field[Any], type]]:
    """The fields of a group that hold numbers, with the type of the number."""
    hints = get_type_hints(group)
    for field in dataclasses.fields(group):
        found = set(types_in(hints[field.name]))
        if field.init and found & {int, float}:
            yield field, float if float in found else int


NUMBERS = [
    pytest.param(group, field, kind, id=f"{group.__module__}.{group.__qualname__}.{field.name}")
    for group in GROUPS
    for field, kind in numbers(group)
]


def test_every_command_and_every_task_is_seen() -> None:
    names = {group.__name__ for group in GROUPS}
    assert {"ITRDTrainingArguments", "TextBrewerArguments", "FineTuningArguments"} <= names
    assert {"CompareArguments", "DataArguments", "TextArguments", "AnswerArguments"} <= names
    assert {"LabelArguments", "ExportArguments", "DemoArguments", "EvaluationArguments"} <= names
    assert len(NUMBERS) > 130


@pytest.mark.parametrize(("group", "field", "kind"), NUMBERS)
def test_a_number_has_a_range_or_choices(
    group: type, field: dataclasses.Field[Any], kind: type
) -> None:
    allowed = field.metadata.get("range", OF_TRANSFORMERS.get(field.name))
    assert isinstance(allowed, Range) or field.metadata.get("choices"), field.name
    if isinstance(allowed, Range):
        assert allowed.whole or kind is float, "an integer is a whole number"
        for value in (math.nan, math.inf, -math.inf, -(10**30)):
            assert value not in allowed
        assert kind is float or 10**30 not in allowed


@pytest.mark.parametrize(
    ("group", "field", "kind"), [p for p in NUMBERS if p.values[0] is not CompareArguments]
)
def test_a_number_outside_of_its_range_is_refused_where_the_command_line_is_parsed(
    group: type, field: dataclasses.Field[Any], kind: type
) -> None:
    needed = [
        word
        for f in dataclasses.fields(group)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if f.name != field.name
        for word in (f"--{f.name}", "x")
    ]
    for value in ("nan", "-inf", "1e400", str(-(10**30)), "9" * 400):
        with pytest.raises(UserError) as error:
            parser.parse([group], [*needed, f"--{field.name}={value}"])
        assert field.name in str(error.value)
        assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    "change", [{"seeds": [-1]}, {"holdout_questions": 0}, {"cost_steps": -1}, {"jobs": 10**10}]
)
def test_a_number_of_a_comparison_is_refused_too(change: dict[str, Any]) -> None:
    """Its mappings come from a file, so that no command line holds all that it needs."""
    (name,) = change
    with pytest.raises(UserError, match=f"{name} (is|has) -?[0-9]+, but must be"):
        CompareArguments(base="a", methods={"kd": {}}, output_dir="b", **change)


@dataclasses.dataclass
class Parts:
    seeds: list[int] = dataclasses.field(
        default_factory=list, metadata=Metadata(range=Range(least=0, most=9, whole=True))
    )
    weights: dict[str, float] = dataclasses.field(
        default_factory=dict, metadata=Metadata(range=Range(above=0))
    )
    count: int = dataclasses.field(default=1, metadata=Metadata(range=Range(least=1, whole=True)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": [1, 10]}, "seeds has 10, but must be from 0 to 9."),
        ({"weights": {"a": 1.0, "b": -1}}, "b of weights is -1, but must be a finite number > 0."),
        ({"count": 0}, "count is 0, but must be at least 1."),
        ({"count": 2**31}, f"count is {2**31}, but must be at least 1 and at most {LARGEST}."),
        ({"count": 10**5000}, "count is a number of thousands of digits, but must be at least 1"),
    ],
)
def test_parts_of_a_list_and_of_a_mapping_are_looked_at(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        check_values(Parts(**changes))
    assert str(error.value).startswith(sentence)
    check_values(Parts(seeds=[0, 9], weights={"a": 0.1}, count=LARGEST))
