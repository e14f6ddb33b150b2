"""A whole comparison: search, trainings, cost, then records, tables and figures."""

from __future__ import annotations

import errno
import fcntl
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from itrd_nlp.compare.arguments import CompareArguments, SubmitArguments
from itrd_nlp.compare.cluster import Cluster
from itrd_nlp.compare.figures import write_figures
from itrd_nlp.compare.launching import Launcher, LocalProcesses
from itrd_nlp.compare.plan import Cell, Choice, Plan
from itrd_nlp.compare.records import (
    RECORDS_NAME,
    SCORES_NAME,
    Record,
    Scores,
    collect,
    has_sources,
    read_records,
    write_records,
)
from itrd_nlp.compare.runner import Failure, Stopped, run_cells
from itrd_nlp.compare.setting import Setting
from itrd_nlp.compare.tables import all_columns, summarise, write_tables
from itrd_nlp.errors import UserError
from itrd_nlp.files import open_file, writing
from itrd_nlp.models.loading import check_model_folder
from itrd_nlp.training.output_paths import check_target_folder
from itrd_nlp.training.record import recorded_metrics

logger = logging.getLogger(__name__)

LOCK_NAME = ".lock"


@dataclass
class Outcome:
    """The end of a comparison.

    Attributes:
        table: the table in markdown; None where no training of the comparison itself is finished.
        failures: trainings that failed.
        undecided: `student/method` whose search has a try that failed, so that it was not trained.
    """

    table: str | None
    failures: list[Failure] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


def compare(
    args: CompareArguments,
    program: Sequence[str],
    setting: Setting,
    console: Console,
    submit: SubmitArguments | None = None,
) -> Outcome:
    """Run the trainings that are not finished yet, and write down the outcome.

    Writes to ``args.output_dir``: `results.jsonl` and `scores.npz`, `table.md`, `.tex` and `.csv`, and the figures of
    `write_figures`. A training is finished when its folder has results of the same config; others are taken up where
    their last checkpoint is.

    Args:
        args: methods, students, seeds and budget.
        program: the words that start `itrd-nlp`, such as ``[sys.executable, "-P", "-m", "itrd_nlp"]``.
        setting: the task and the commands that train.
        console: where progress goes.
        submit: where the trainings run. Default: in processes of this machine.

    Raises:
        UserError: something makes no sense, or another comparison runs in the same folder.
        Stopped: a signal came. What is finished until then is written down.
    """
    folder = Path(args.output_dir)
    if args.tables_only:
        _check_folder(folder)
        table = _publish(folder, args, setting, *read_records(folder))
        if table is None:
            raise UserError(f"{folder / RECORDS_NAME} has tries of a search alone, and no table.")
        return Outcome(table)
    plan = Plan(args, setting)
    tries = plan.search()
    _check_folder(folder, [*tries, *plan.cells(plan.nothing_chosen())])
    check_inputs(setting, tries or _after(plan, tries))
    with _locked(folder) as lock:
        launcher = _launcher(submit or SubmitArguments(), program, folder, lock)
        failures: list[Failure] = []
        try:
            failures += run_cells(tries, launcher=launcher, jobs=args.jobs, console=console)
            check_inputs(setting, _after(plan, tries))  # the tries may be of another day
            choice = choose(plan, tries)
            failures += run_cells(
                plan.cells(choice), launcher=launcher, jobs=args.jobs, console=console
            )
            failures += run_cells(plan.cost(choice), launcher=launcher, jobs=1, console=console)
        except Stopped:
            _write_down(plan, tries)
            raise
        except UserError:
            with suppress(UserError):  # the first one says what is wrong
                _write_down(plan, tries)
            raise
        table = _write_down(plan, tries)
    undecided = [f"{s}/{m}" for s, m in plan.nothing_chosen() if (s, m) not in choice]
    return Outcome(table, failures, undecided)


def _after(plan: Plan, tries: Sequence[Cell]) -> list[Cell]:
    """The trainings that follow a search, as far as its tries are finished."""
    choice = choose(plan, tries)
    return [*plan.cells(choice), *plan.cost(choice)]


def _launcher(submit: SubmitArguments, program: Sequence[str], folder: Path, lock: int) -> Launcher:
    if submit.submit is None:
        return LocalProcesses(program, lock)
    return Cluster(submit, program, folder)


def _check_folder(folder: Path, cells: Sequence[Cell] = ()) -> None:
    """Refuse a folder that is an input of the comparison, or that holds files of somebody else.

    Each training checks its own folder in the same way.
    """
    figures = [
        f"{figure}.{kind}" for figure in ("*_cost", "*_depth", "curves") for kind in ("svg", "png")
    ]
    check_target_folder(
        folder,
        option="output_dir",
        written=(RECORDS_NAME, SCORES_NAME, "table.*", *figures),
        ours=lambda path: any((path / name).exists() for name in (LOCK_NAME, "cells", SCORES_NAME)),
        inputs=list(dict.fromkeys(name for cell in cells for name in _inputs(cell))),
    )


def check_inputs(setting: Setting, cells: Sequence[Cell]) -> None:
    """Refuse models or data that cannot be read, before the first training and not once in each of them.

    Args:
        setting: the task.
        cells: the trainings. Those that are finished need nothing any more.

    Raises:
        UserError: names the model or the file.
    """
    waiting = [cell for cell in cells if cell.results() is None]
    for cell in waiting:
        setting.check_paths(cell.config)
    for role, name in dict.fromkeys(model for cell in waiting for model in _models(cell)):
        check_model_folder(name, role)
    data = [setting.data(cell.config) for cell in waiting]
    for name in dict.fromkeys(
        value for args in data for key, value in vars(args).items() if key.endswith("_file")
    ):
        if isinstance(name, str) and Path(name).suffix.lower() in (".json", ".jsonl"):
            open_file(name).close()
    if data:
        setting.task.scores(data[0], {})  # reads what all of them are judged on


def _models(cell: Cell) -> Iterator[tuple[str, str]]:
    """The role and the name of each model that a training loads."""
    config = cell.config
    yield "teacher", str(config.get("teacher"))
    if config.get("student") is not None:
        yield "student", str(config["student"])
    more = config.get("more_teachers") or []
    for name in [more] if isinstance(more, str) else more:
        yield "teacher", str(name)


def _inputs(cell: Cell) -> Iterator[Any]:
    """The names of the models and the files that a training reads."""
    yield from (name for _, name in _models(cell))
    yield from (value for key, value in cell.config.items() if key.endswith("_file"))


def choose(plan: Plan, tries: Sequence[Cell]) -> Choice:
    """The arguments with the best main metric on the held-out questions; of equal ones the first.

    Returns:
        (student, method) to arguments. One of which a try is not finished is left out: fewer tries than the others
        would not be the same budget.
    """
    choice = dict(plan.nothing_chosen())
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in tries:
        groups.setdefault((cell.student, cell.method), []).append(cell)
    for key, group in groups.items():
        results = [cell.results() for cell in group]
        finished = [result for result in results if result is not None]
        if len(finished) < len(group):
            del choice[key]
        else:
            metric = plan.setting.measures(group[0].config).main
            scores = [result.scores[metric] for result in finished]
            choice[key] = plan.args.search[key[1]][scores.index(max(scores))]
    return choice


def _write_down(plan: Plan, tries: Sequence[Cell]) -> str | None:
    args, setting, choice = plan.args, plan.setting, choose(plan, tries)
    folder = Path(args.output_dir)
    records, scores = collect(setting, [*tries, *plan.cells(choice)], plan.cost(choice))
    if not records:
        return None
    write_records(folder, records, scores)
    # As they were written, so that tables_only gives the same.
    return _publish(folder, args, setting, *read_records(folder))


def _publish(
    folder: Path,
    args: CompareArguments,
    setting: Setting,
    records: Sequence[Record],
    scores: Scores,
) -> str | None:
    main = records[0].get("main_metric") or setting.task.main_metric
    _check_columns(folder / RECORDS_NAME, records, main, args)
    rows = summarise(records, scores, reference=args.reference, main_metric=main)
    if not rows:
        return None
    with writing(folder):
        write_figures(folder, records, rows)
        return write_tables(
            folder,
            records,
            rows,
            args.table,
            reference=args.reference,
            unit=setting.task.page.unit,
            sources=setting.task.page.sources if has_sources(scores) else None,
        )


def _check_columns(
    path: Path, records: Sequence[Record], main: str, args: CompareArguments
) -> None:
    """Refuse a table of other metrics than the records have, before anything is written.

    Raises:
        UserError: names the column, or the line whose metrics are not those of the others.
    """
    metrics = recorded_metrics(records[0])
    for number, record in enumerate(records, start=1):
        names = recorded_metrics(record)
        if names != metrics:
            raise UserError(
                f"{path}: line {number} has the metrics {', '.join(names)}, but line 1 has {', '.join(metrics)}."
            )
    if main not in metrics:
        raise UserError(
            f"{path} has the metrics {', '.join(metrics)}, but the task {args.task} compares by {main}; task must be "
            "that of the trainings."
        )
    columns = all_columns(metrics)
    for name in args.table:
        if name not in columns:
            raise UserError(f"table names {name!r}, but its columns are {', '.join(columns)}.")


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Keep others out of a folder, until this process and the trainings that it started are gone."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_NAME).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):  # a disk without locks
                logger.warning("%s cannot be locked: %s.", folder, error.strerror)
                yield file.fileno()
                return
            raise UserError(
                f"output_dir {folder} is in use by another comparison, or by trainings that one left behind; wait "
                "for them or end them."
            ) from None
        yield file.fileno()
