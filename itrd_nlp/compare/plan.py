"""The plan of a comparison: methods, students and seeds under one budget, and the trainings that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from itrd_nlp.compare.arguments import CompareArguments
from itrd_nlp.compare.setting import Setting, Training
from itrd_nlp.compare.tables import COLUMNS
from itrd_nlp.errors import UserError, did_you_mean
from itrd_nlp.training.record import RunRecord
from itrd_nlp.training.yaml_files import read_config

COST_QUESTIONS = 16
NO_CHOICE: dict[str, Any] = {}
# A try of a search may set these beside its method's own arguments: the rate that suits one objective need not suit
# another, and every method has equally many tries.
TUNABLE = frozenset({"learning_rate"})


@dataclass(frozen=True)
class Cell:
    """One training of the comparison.

    Attributes:
        stage: `search` (judged on held-out questions of train), `cells` (the comparison itself) or `cost` (a few
            steps for their time). Also the name of a folder.
        student: name of the student.
        method: name of the method.
        number: the seed; in a search the number of the try.
        name: `student/method/seed0` or `student/method/try0`, unique in its stage.
        overrides: arguments that make the method: its own and those that the search chose.
        config: the whole config of the command.
        training: the command that trains it.
        ignored: arguments whose other value makes no other training.
    """

    stage: str
    student: str
    method: str
    number: int
    name: str
    overrides: dict[str, Any]
    config: dict[str, Any]
    training: Training
    ignored: frozenset[str]

    @property
    def folder(self) -> Path:
        return Path(self.config["output_dir"])

    @property
    def command(self) -> str:
        """The name of the command that trains it."""
        return self.training.command

    def results(self) -> RunRecord | None:
        """The record of the training, None if it is not finished.

        Raises:
            UserError: the folder holds a finished training of another config.
        """
        record = RunRecord.read(self.folder)
        if record is None:
            return None
        text = record.config.text if record.config is not None else ""
        try:
            before = yaml.safe_load(text) or {}  # earlier versions dumped it by PyYAML
        except yaml.YAMLError:
            raise UserError(
                f"{self.folder} holds a finished training whose config is no YAML; remove the folder to train again."
            ) from None
        for name in sorted((before.keys() | self.config.keys()) - self.ignored):
            if name != "output_dir" and _value(before.get(name)) != _value(self.config.get(name)):
                raise UserError(
                    f"{self.folder} holds a finished training with {name} = {before.get(name)!r}, not "
                    f"{self.config.get(name)!r}; remove it or name another output_dir."
                )
        return record


Choice = Mapping[tuple[str, str], dict[str, Any]]
"""(student, method) to the arguments that a search chose."""


class Plan:
    """The trainings of a comparison.

    Args:
        args: what to compare.
        setting: the task and the commands that train.

    Raises:
        UserError: the base cannot be read, a method changes the budget, or its command would refuse an argument.

    Example:
        >>> plan = Plan(args, setting)  # doctest: +SKIP
        >>> [cell.name for cell in plan.cells(plan.nothing_chosen())]  # doctest: +SKIP
        ['T3/kd/seed0', 'T3/itrd/seed0', 'T3/kd/seed1', 'T3/itrd/seed1']
    """

    def __init__(self, args: CompareArguments, setting: Setting) -> None:
        self.args = args
        self.setting = setting
        if not Path(args.base).is_file():
            raise UserError(
                f"base {args.base} does not exist, but must be a config of `itrd-nlp {setting.itrd.command}`."
            )
        self.base = self._read_base()
        setting.check_search(args.search)
        self._check_depths()
        for method, overrides in args.all_methods.items():
            self._check_method(method, overrides)
            for tried in args.search.get(method, []):
                self._check_method(method, tried, tunable=TUNABLE)
        for student, overrides in args.students.items():
            for name in overrides:
                if name not in setting.options:
                    raise UserError(f"student {student} sets {self._unknown(name, setting.itrd)}")
                if name in setting.set_by_the_comparison:
                    raise UserError(
                        f"student {student} sets {name}, but the comparison sets that itself."
                    )
        self._check_values()
        self._check_table()

    def _read_base(self) -> dict[str, Any]:
        """The values of the base.

        Raises:
            UserError: it cannot be read, or is of another task.
        """
        base = dict(read_config(self.args.base).values)
        task = base.get("task", self.args.task)
        if task != self.args.task:
            raise UserError(
                f"{self.args.base} is of the task {task}, but the comparison has the task {self.args.task}; name one "
                "task in both."
            )
        if "task" not in self.setting.options:  # a command of this task alone
            base.pop("task", None)
        return base

    def _check_depths(self) -> None:
        """Refuse a depth that each training would choose for itself."""
        for name in ("speedup", "max_ms", "max_mb"):
            if any(
                values.get(name) is not None for values in (self.base, *self.args.students.values())
            ):
                raise UserError(
                    f"{name} is set, but each training would measure it by itself and might choose another depth; set "
                    "num_layers."
                )

    def nothing_chosen(self) -> Choice:
        """The choice where there is no search."""
        return {key: NO_CHOICE for key in self._pairs()}

    def search(self) -> list[Cell]:
        """The tries of the search, all with the first seed."""
        return [
            self._cell("search", student, method, number, self.args.seeds[0], chosen)
            for student, method in self._pairs()
            for number, chosen in enumerate(self.args.search.get(method, []))
        ]

    def cells(self, choice: Choice) -> list[Cell]:
        """The comparison itself, one seed of everything before the next."""
        return [
            self._cell("cells", student, method, seed, seed, choice[student, method])
            for seed in self.args.seeds
            for student, method in self._pairs()
            if (student, method) in choice
        ]

    def cost(self, choice: Choice) -> list[Cell]:
        """A few steps of each method, without the cache."""
        if self.args.cost_steps == 0:
            return []
        seed = self.args.seeds[0]
        return [
            self._cell("cost", student, method, seed, seed, choice[student, method])
            for student, method in self._pairs()
            if (student, method) in choice
        ]

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for student in self.args.students:
            for method in self.args.all_methods:
                yield student, method

    def _cell(
        self,
        stage: str,
        student: str,
        method: str,
        number: int,
        seed: int,
        chosen: Mapping[str, Any],
    ) -> Cell:
        args = self.args
        name = f"{student}/{method}/{'try' if stage == 'search' else 'seed'}{number}"
        folder = Path(args.output_dir)
        overrides = {**args.all_methods[method], **chosen}
        config = self.base | args.students[student]
        if method in args.textbrewer:  # it knows neither our objective nor a cache
            config = {
                k: v for k, v in config.items() if k not in self.setting.unknown_to_textbrewer
            }
        else:
            config |= {
                "teacher_cache": args.teacher_cache,
                "teacher_cache_dir": self.base.get("teacher_cache_dir")
                or str(folder / "teacher_cache"),
            }
        config |= overrides
        config |= {
            "output_dir": str(folder / stage / name),
            "seed": seed,
            "disable_tqdm": True,  # a log file is no place for a bar
        }
        if args.search:
            # In every stage, so that search and comparison train on the same questions.
            config |= {
                "holdout_questions": args.holdout_questions,
                "evaluate_on_holdout": stage == "search",
            }
        if stage == "cost":
            config |= {
                "max_steps": args.cost_steps,
                "save_strategy": "no",
                "eval_strategy": "no",
                "eval_on_start": False,
                "load_best_model_at_end": False,
            }
            if "max_eval_samples" in self.setting.options:
                config["max_eval_samples"] = COST_QUESTIONS
            if method not in args.textbrewer:
                config["teacher_cache"] = "off"
        training = self._training(method)
        ignored = self.setting.ignored
        return Cell(stage, student, method, number, name, overrides, config, training, ignored)

    def _training(self, method: str) -> Training:
        """The command that trains a method.

        Raises:
            UserError: the task has no recipe of TextBrewer.
        """
        if method not in self.args.textbrewer:
            return self.setting.itrd
        if self.setting.textbrewer is None:
            raise UserError(
                f"textbrewer names {method}, but there is no recipe of TextBrewer for the task {self.args.task}."
            )
        return self.setting.textbrewer

    def _check_table(self) -> None:
        columns = [*COLUMNS]
        if self.args.table:
            files = {k: v for k, v in self.base.items() if k.endswith("_file")}
            self.setting.check_paths(files)
            columns += self.setting.measures(self.base).headings
        for name in self.args.table:
            if name not in columns:
                raise UserError(f"table names {name!r}, but its columns are {', '.join(columns)}.")

    def _check_method(
        self, method: str, overrides: Mapping[str, Any], tunable: frozenset[str] = frozenset()
    ) -> None:
        training, options = self._training(method), self.setting.options
        own = self.setting.recipe if method in self.args.textbrewer else self.setting.objective
        own |= tunable
        for name in overrides:
            if name not in options | own:
                raise UserError(f"method {method} sets {self._unknown(name, training)}")
            if name not in own:
                raise UserError(
                    f"method {method} sets {name}, but that is part of the budget, which is one for all methods; set "
                    f"it in {self.args.base}, or for a student."
                )

    def _unknown(self, name: str, training: Training) -> str:
        options = self.setting.options
        if training is self.setting.textbrewer:
            options |= self.setting.recipe
        return f"{name!r}, which is no option of {training.command}{did_you_mean(name, options)}"

    def _check_values(self) -> None:
        """Let the parser of the commands see every config before the first training starts."""
        cells = [
            *self.search(),
            *self.cells(self.nothing_chosen()),
            *self.cost(self.nothing_chosen()),
        ]
        seen = set()
        for cell in cells:
            number = cell.number if cell.stage == "search" else None  # seeds differ in nothing
            key = (cell.stage, cell.student, cell.method, number)
            if key in seen:
                continue
            seen.add(key)
            training = cell.training
            try:
                *_, args = self.setting.parsed(training.groups, cell.config, training.options)
            except UserError as error:
                raise UserError(f"{cell.student}/{cell.method}: {error}") from error
            if args.push_to_hub:
                raise UserError(
                    "push_to_hub is true, but the students of a comparison would overwrite each other in one "
                    "repository; leave it out, and push one of them with `itrd-nlp push-to-hub`."
                )
            if args.overwrite_output_dir:
                raise UserError(
                    "overwrite_output_dir is true, but a comparison goes on where it was stopped; leave it out, and "
                    f"remove {self.args.output_dir} to train anew."
                )


def _value(value: Any) -> Any:
    """A value by itself and a list of it alone say the same to an argument."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
