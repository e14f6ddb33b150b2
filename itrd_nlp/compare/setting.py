"""The surroundings of a comparison, which are handed in: the task, and the commands that train."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from itrd_nlp.errors import UserError
from itrd_nlp.files import write_text
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.training.roles import Role, is_experiment, names_of
from itrd_nlp.training.secrets import is_secret_name
from itrd_nlp.training.yaml_files import dump_yaml

Parse = Callable[[Sequence[type], Sequence[str]], Any]
"""Fills dataclasses from arguments of a command line, as `itrd_nlp.cli.parser.parse` does."""


class Measures(Protocol):
    """The metrics on some data; see `itrd_nlp.tasks.task.Measures`."""

    @property
    def headings(self) -> Mapping[str, str]:
        """Name of a metric to its heading in tables."""

    @property
    def main(self) -> str:
        """The metric by which methods are compared."""


class ComparedTask(Protocol):
    """The part of a task that a comparison uses; see `itrd_nlp.tasks.task.Task`."""

    def __init__(self, args: Any) -> None: ...

    @property
    def measures(self) -> Measures:
        """The metrics on the data of the arguments."""

    name: ClassVar[str]
    arguments: ClassVar[type]
    metrics: ClassVar[Mapping[str, str]]
    main_metric: ClassVar[str]
    page: ClassVar[TaskPage]

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Scores of every example by itself."""

    @classmethod
    def sources(cls, args: Any) -> NDArray[Any] | None:
        """The number of the source of every example."""


@dataclass(frozen=True)
class Training:
    """A command of `itrd-nlp` that trains.

    Attributes:
        command: its name.
        groups: the dataclasses of its arguments; the last one is that of the training.
        options: words that follow the config, such as ``--task classification``.
    """

    command: str
    groups: tuple[type, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """The task that is compared on, and the commands that train.

    Attributes:
        task: the task.
        itrd: trains with the objective of this package.
        textbrewer: trains by TextBrewer's own distiller; None where the task has no recipe for it.
        parse: reads the arguments of a command.
        check_paths: refuses arguments that name a model or a file which a command of the package has yet to make.
    """

    task: type[ComparedTask]
    itrd: Training
    textbrewer: Training | None
    parse: Parse
    check_paths: Callable[[Mapping[str, Any]], None]

    def measures(self, config: Mapping[str, Any]) -> Measures:
        """The metrics on the data of a config.

        Raises:
            UserError: the data cannot be read.
        """
        return self.task(self.data(config)).measures

    def data(self, config: Mapping[str, Any]) -> Any:
        """The arguments of the data in the config of a training, an instance of `ComparedTask.arguments`.

        Raises:
            UserError: a value makes no sense.
        """
        names = {f.name for f in fields(self.task.arguments)}
        chosen = {name: value for name, value in config.items() if name in names}
        (args,) = self.parsed((self.task.arguments,), chosen)
        return args

    def parsed(
        self, groups: Sequence[type], config: Mapping[str, Any], options: Sequence[str] = ()
    ) -> Any:
        """Parse a config as its command does: the same file goes through the same parser.

        Args:
            groups: the dataclasses to fill.
            config: the values. Secrets are left out, as they are in the file of a training.
            options: words that follow the config.

        Raises:
            UserError: a value makes no sense. The file is not named, since nobody can find it.
        """
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "config.yaml"
            write_config(path, config)
            try:
                return self.parse(groups, [str(path), *options])
            except UserError as error:
                raise UserError(str(error).removeprefix(f"{path}: ")) from error

    @cached_property
    def options(self) -> frozenset[str]:
        """All arguments of the command that trains."""
        return frozenset(f.name for group in self.itrd.groups for f in fields(group) if f.init)

    @cached_property
    def objective(self) -> frozenset[str]:
        """The arguments that a method may choose. All others are the budget, one for all methods."""
        found = (names_of(group, Role.OBJECTIVE) for group in self.itrd.groups)
        return frozenset().union(*found)

    @cached_property
    def recipe(self) -> frozenset[str]:
        """The arguments that a method of TextBrewer may choose."""
        if self.textbrewer is None:
            return frozenset()
        return names_of(self.textbrewer.groups[-1], Role.OBJECTIVE)

    @cached_property
    def cache(self) -> frozenset[str]:
        """The arguments that say how the teacher's outputs are kept."""
        return names_of(self.itrd.groups[-1], Role.CACHE)

    @cached_property
    def set_by_the_comparison(self) -> frozenset[str]:
        """The arguments that a student must not set, because the comparison does."""
        names = ("seed", "output_dir", "resume_from_checkpoint", "disable_tqdm")
        return self.cache | {*names, "holdout_questions", "evaluate_on_holdout"}

    @cached_property
    def unknown_to_textbrewer(self) -> frozenset[str]:
        """The arguments of a base config that do not reach TextBrewer: our objective, and those it does not have."""
        if self.textbrewer is None:
            return frozenset()
        theirs = {f.name for group in self.textbrewer.groups for f in fields(group)}
        return self.objective | (self.options - theirs)

    @cached_property
    def ignored(self) -> frozenset[str]:
        """The arguments whose other value makes no other training."""
        return frozenset(
            f.name
            for group in self.itrd.groups
            for f in fields(group)
            if f.init and not is_experiment(f)
        )

    def check_search(self, search: Mapping[str, Any]) -> None:
        """Refuse a search where the task cannot set training data aside to judge the tries on.

        Raises:
            UserError: see there.
        """
        if search and "holdout_questions" not in self.options:
            raise UserError(
                f"search needs training data that are set aside, which the task {self.task.name} cannot do; choose the "
                "arguments of each method yourself and remove search."
            )


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write a config as YAML, in the order of its options and without secrets, which `run_cells` hands on."""
    public = {name: value for name, value in config.items() if not is_secret_name(name)}
    write_text(path, dump_yaml(public))
