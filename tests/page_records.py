"""The sections of a page, the records that they name, and the figures that follow from a record."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
NO_SCORE = re.compile(
    r"second|parameters|megabytes|^ms_|^steps$|^number$|^seed$|questions|^rows$|^layers$|_loss$|cost"
)
"""Numbers of a run that no page gives with a decimal point."""
COMPARED_WITH = ("kd", "kd_1", "itrd", "itrd_1", "corr", "corr_mi")
"""Methods that others are held against. The differences of all pairs would be so many that any figure is near one."""
LINKED = re.compile(r"(?:results/|\.\./benchmarks/)[\w.-]+")


@dataclass
class Section:
    """A part of a page below one heading."""

    level: int
    anchors: set[str]
    text: str = ""
    parts: list[Section] = field(default_factory=list)

    def records(self) -> set[str]:
        """Files and folders below ``docs`` that the section and its parts name."""
        found = {name for name in LINKED.findall(self.text) if (DOCS / name).exists()}
        return found.union(*(part.records() for part in self.parts))


def sections(page: str) -> list[Section]:
    """The sections of a page in its order. A section of the third level is a part of the one above it, too."""
    found = [Section(1, set())]
    waiting: set[str] = set()
    for line in page.splitlines():
        if anchor := re.match(r'<a id="([\w-]+)">', line):
            waiting.add(anchor[1])
        elif heading := re.match(r"(##+) (.*)", line):
            slug = re.sub(r"[^\w -]", "", heading[2].lower()).replace(" ", "-")
            section = Section(len(heading[1]), waiting | {slug})
            waiting = set()
            if section.level == 3:
                next(s for s in reversed(found) if s.level == 2).parts.append(section)
            found.append(section)
        else:
            found[-1].text += line + "\n"
            if line and waiting:  # an anchor within a section
                found[-1].anchors |= waiting
                waiting = set()
    return found


@dataclass(frozen=True)
class Runs:
    """One score of the runs of a method, by seed or by try, and that of their teachers."""

    score: str
    stage: str
    student: str | None
    method: str
    values: dict[Any, float]
    teachers: frozenset[float]

    @property
    def mean(self) -> float:
        return statistics.mean(self.values.values())

    @property
    def deviation(self) -> float | None:
        values = list(self.values.values())
        return statistics.stdev(values) if len(values) > 1 else None


def runs_of(lines: Iterable[str]) -> list[Runs]:
    """All scores of a file of records."""
    found: dict[tuple[str, str, str | None, str], dict[Any, float]] = {}
    teachers: dict[str, set[float]] = {}
    for row in map(json.loads, lines):
        name = re.sub(r"_\d$", "", str(row.get("name")))
        of_method = (row.get("stage", "cells"), row.get("student"), row.get("method", name))
        for score in scores_in(row):
            values = found.setdefault((score, *of_method), {})
            values[row.get("number", row.get("name"))] = row[score]
            teacher = row.get("teacher")
            if isinstance(teacher, dict) and score in teacher:
                teachers.setdefault(score, set()).add(teacher[score])
    return [
        Runs(*key, values, frozenset(teachers.get(key[0], ()))) for key, values in found.items()
    ]


def scores_in(row: dict[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not NO_SCORE.search(name):
            yield name


@functools.cache
def runs_named(record: str) -> tuple[Runs, ...]:
    """All scores of a file of records, or of a folder with such files."""
    path = DOCS / record
    files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    return tuple(
        runs
        for file in files
        if file.suffix == ".jsonl"
        for runs in runs_of(file.read_text().splitlines())
    )


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a JSON file, and means of its lists: of numbers, and of rows with the same fields."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, list):
        own = [x for x in value if isinstance(x, int | float) and not isinstance(x, bool)]
        if own:
            yield statistics.mean(own)
        rows = [row for row in value if isinstance(row, dict)]
        for name in set.intersection(*map(set, rows)) if len(rows) > 1 else ():
            yield from numbers([row[name] for row in rows])
        for inner in value:
            yield from numbers(inner)


def of_one(runs: Runs) -> Iterator[float]:
    """The figures of one method: each run, mean, deviation, and the distances from a teacher."""
    each = [runs.mean, *runs.values.values()]
    yield from each
    if runs.deviation is not None:
        yield runs.deviation
    yield from runs.teachers
    yield from (abs(teacher - value) for teacher in runs.teachers for value in each)
    if runs.stage == "search":
        yield from (abs(a - b) for a, b in itertools.combinations(runs.values.values(), 2))


def of_two(a: Runs, b: Runs) -> Iterator[float]:
    """The differences of two methods with one student, or of two students with one method."""
    if a.score != b.score or a.stage != b.stage:
        return
    one_student = a.student == b.student and not {a.method, b.method}.isdisjoint(COMPARED_WITH)
    if one_student or a.method == b.method or a.student is b.student is None:
        yield abs(a.mean - b.mean)


def in_files(record: str) -> Iterator[float]:
    """The numbers of JSON files, and the differences in tables."""
    path = DOCS / record
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.suffix == ".json":
            content = json.loads(file.read_text())
            yield from numbers(content)
            yield from times_as_fast(content)
        elif file.suffix == ".jsonl":
            yield from of_decoding(file.read_text().splitlines())
        elif file.suffix == ".csv":
            for row in csv.DictReader(file.open()):
                for name, value in row.items():
                    if value and name.endswith(("_difference", "_low", "_high", "p_value")):
                        yield float(value)


def times_as_fast(content: Any) -> Iterator[float]:
    """How much faster each form of a model is than the first one."""
    forms = content.get("models", {}) if isinstance(content, dict) else {}
    times = [form.get("milliseconds_per_question") for form in forms.values()]
    if times and all(times):
        yield from (times[0] / time for time in times)


def of_decoding(lines: Iterable[str]) -> Iterator[float]:
    """The values that questions set aside have settled, such as the threshold of the empty answer."""
    for row in map(json.loads, lines):
        yield from numbers(row.get("decoding"))
        yield from numbers((row.get("teacher") or {}).get("decoding"))


@functools.cache
def figures_of(records: frozenset[str]) -> tuple[float, ...]:
    """All that may be said of some records: files, or folders of files."""
    found = set(itertools.chain.from_iterable(map(in_files, records)))
    runs = [one for record in sorted(records) for one in runs_named(record)]
    found.update(*map(of_one, runs))
    for a, b in itertools.combinations(runs, 2):
        found.update(of_two(a, b))
    return tuple(sorted(map(abs, found)))
