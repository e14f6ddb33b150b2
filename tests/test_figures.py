"""Every figure with a decimal point in README.md and docs/results.md stands in a record, or follows from one.

A section of the results names its records by links, or links to the section that names them. Its figures may be numbers
of these records, means or standard deviations over seeds, or differences within one comparison. Those of the other
pages may be from any record. Intervals are held by `test_results.py`.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCORES = ("f1", "exact_match", "perplexity")
QUOTED = {  # the paper's table 3, and the distance of its T3 from its teacher
    "81.5", "88.6", "79.1", "86.9", "80.8", "88.1", "88.5", "76.3", "84.8", "77.7", "85.8", "2.8",
}  # fmt: skip
FIGURE = re.compile(r"(?<![\w.-])[-+]?\d+\.\d+(?![\w.]*\d)")
NO_FIGURES = (
    re.compile(r"```.*?```", re.DOTALL),
    re.compile(r"<!--.*?-->|<a id=.*?>"),
    re.compile(r"`[^`]*`"),
    re.compile(r"\[[+-]?\d+\.\d+(?:,| to) [+-]?\d+\.\d+\]"),  # an interval
    re.compile(r"\]\([^)]*\)"),
    re.compile(r"SQuAD [12]\.\d|< 0\.001|torch \d\S+|CUDA \S+|python \d\S+|itrd_nlp \d\S+"),
    re.compile(r"standard deviation of \d\.\d \(the median of \d+ methods\)"),  # in test_results.py
    re.compile(r"\d+\.\d+ M parameters|Apache-2\.0|CC BY-SA 4\.0"),
)


@dataclass
class Section:
    """A part of the page below one heading."""

    level: int
    anchors: set[str]
    text: str = ""
    parts: list[Section] = field(default_factory=list)

    def records(self) -> set[str]:
        """Folders and files of records that the section and its parts link to."""
        own = set(re.findall(r"\(((?:results|\.\./benchmarks)/[\w./-]+?)/?\)", self.text))
        return own.union(*(part.records() for part in self.parts))


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


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a record, and means of its lists: of numbers, and of rows with the same fields."""
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


def derived(rows: list[dict[str, Any]]) -> Iterator[float]:
    """Means, deviations and differences of the runs of one comparison, and their distance from their teacher."""
    names = {name for row in rows for name in row.get("metrics", ())}
    for score in names.union(SCORES):
        runs: dict[Any, list[float]] = {}
        teachers: set[float] = set()
        for row in rows:
            if score in row and row.get("stage") != "search":
                name = re.sub(r"_\d$", "", str(row.get("name")))
                runs.setdefault((row.get("student"), row.get("method", name)), []).append(
                    row[score]
                )
            if isinstance(row.get("teacher"), dict) and score in row["teacher"]:
                teachers.add(row["teacher"][score])
        means = [statistics.mean(values) for values in runs.values()]
        yield from means
        yield from (statistics.stdev(values) for values in runs.values() if len(values) > 1)
        singles = [value for values in runs.values() for value in values]
        for a, b in itertools.combinations([*means, *singles, *teachers], 2):
            yield abs(a - b)


@functools.cache
def figures_of(record: str) -> frozenset[float]:
    """All that may be said of a file of records, or of a folder of them."""
    path = ROOT / "docs" / record
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    found: set[float] = set()
    for file in files:
        if file.suffix == ".json":
            found.update(numbers(json.loads(file.read_text())))
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            found.update(numbers(rows), derived(rows))
        elif file.suffix == ".csv":
            cells = itertools.chain.from_iterable(csv.reader(file.open()))
            found.update(float(cell) for cell in cells if re.fullmatch(r"-?\d+(\.\d+)?", cell))
    return frozenset(found)


def unknown(text: str, records: set[str]) -> list[str]:
    """The figures of a text that do not follow from its records."""
    for pattern in NO_FIGURES:
        text = pattern.sub(" ", text)
    known = [abs(value) for record in records for value in figures_of(record)]
    missing = []
    for figure in FIGURE.findall(text):
        digits = figure.lstrip("+-")
        half = 0.5001 * 10 ** -len(digits.partition(".")[2])
        if digits not in QUOTED and not any(abs(float(digits) - x) <= half for x in known):
            missing.append(figure)
    return missing


def test_every_figure_of_the_results_follows_from_the_records_of_its_section() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    found = sections(page)
    of_anchor = {anchor: section for section in found for anchor in section.anchors}
    wrong = {}
    for section in found:
        linked = [of_anchor[name] for name in re.findall(r"\(#([\w-]+)\)", section.text)]
        records = section.records().union(*(other.records() for other in linked))
        if missing := unknown(section.text, records):
            wrong[min(section.anchors, default="the head of the page")] = missing
    assert wrong == {}


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/classification.md",
        "docs/distributed.md",
        "docs/embedding.md",
        "docs/export.md",
        "docs/from_textbrewer.md",
        "docs/masked_lm.md",
        "docs/recipes.md",
        "docs/reranking.md",
        "docs/squad_v2.md",
    ],
)
def test_every_figure_of_a_page_follows_from_a_record(page: str) -> None:
    records = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs/results").iterdir()}
    assert unknown((ROOT / page).read_text(encoding="utf-8"), records) == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("| KD | 67.86 | 78.16 |", []),
        ("It is 1.13 ahead [0.62 to 1.70], 3.33 below, on SQuAD 1.1.", []),
        ("It has 78.17 or `78.17` F1.", ["78.17"]),
        ("| 12.34 ± 0.4 |", ["12.34"]),
    ],
)
def test_a_figure_that_no_record_has_is_found(text: str, missing: list[str]) -> None:
    assert unknown(text, {"results/minilm_full"}) == missing
