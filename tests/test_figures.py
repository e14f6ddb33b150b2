"""Every figure with a decimal point in README.md and the pages stands in a record, or follows from one.

A section names its records by links, or by links to the section of docs/results.md that names them. Its figures are
scores of these records, means or standard deviations over seeds, or differences of like with like. On the other pages a
paragraph or an item with such a link has these records alone, and a section without one has those of its page.
Intervals are held by `test_results.py`.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from page_records import Runs, Section, figures_of, runs_named, sections

ROOT = Path(__file__).parents[1]
PAGES = (
    *("README.md", "docs/classification.md", "docs/distributed.md", "docs/embedding.md"),
    *("docs/export.md", "docs/from_textbrewer.md", "docs/masked_lm.md", "docs/recipes.md"),
    *("docs/reranking.md", "docs/squad_v2.md"),
)
QUOTED = {  # the paper's table 3, and the distance of its T3 from its teacher
    "81.5", "88.6", "79.1", "86.9", "80.8", "88.1", "88.5", "76.3", "84.8", "77.7", "85.8", "2.8",
}  # fmt: skip
FIGURE = re.compile(r"(?<![\w.-])[-+]?\d+\.\d+(?![\w.]*\d)")
INTERVAL = r"\[[+-]?\d+\.\d+(?:,| to) [+-]?\d+\.\d+\]"
NO_FIGURES = (
    re.compile(r"```.*?```", re.DOTALL),
    re.compile(r"<!--.*?-->|<a id=.*?>"),
    re.compile(r"`[^`]*`"),
    re.compile(INTERVAL),
    re.compile(r"\]\([^)]*\)"),
    re.compile(
        r"SQuAD [12]\.\d|< 0\.001|(?:torch|torchao|onnxruntime|CUDA|python|itrd_nlp|ray) \d\S+"
    ),
    re.compile(r"standard deviation of \d\.\d \(the median of \d+ methods\)"),  # in test_results.py
    re.compile(r"\d+\.\d+ M parameters|Apache-2\.0|CC BY-SA 4\.0"),
)
LEAD = re.compile(rf"[+-]\d+\.\d+ {INTERVAL}")
PART = re.compile(r"\n\n|\n(?= *(?:-|\d+\.) )")
UNMEASURED = {"estimate-8-x-80-gb-bert-large-10-million-passages"}  # the page says so in bold
SCORE = re.compile(r"\**(\d+\.\d+)(?: ± (\d+\.\d+))?\**")
RESULTS = sections((ROOT / "docs/results.md").read_text(encoding="utf-8"))
OF_ANCHOR = {anchor: section for section in RESULTS for anchor in section.anchors}


def records_of(section: Section) -> frozenset[str]:
    """The records that a section names, and those of the sections of results.md that it links to."""
    return linked_by(section.text) | section.records()


def linked_by(text: str) -> frozenset[str]:
    """The same of a part of a section."""
    names = re.findall(r"\((?:(?:docs/)?results\.md)?#([\w-]+)\)", text)
    linked = [OF_ANCHOR[name] for name in names if name in OF_ANCHOR]
    return frozenset(Section(1, set(), text).records().union(*(one.records() for one in linked)))


def shows(figure: str, value: float) -> bool:
    """Whether a figure of a page is this value, with the digits of the page."""
    return abs(float(figure) - value) <= 0.5001 * 10 ** -len(figure.partition(".")[2])


def figures_in(text: str) -> list[str]:
    """The figures of a text that are measured."""
    for pattern in NO_FIGURES:
        text = pattern.sub(" ", text)
    return [figure for figure in FIGURE.findall(text) if figure.lstrip("+-") not in QUOTED]


def is_known(figure: str, records: frozenset[str]) -> bool:
    known, digits = figures_of(records), figure.lstrip("+-")
    at = bisect_left(known, float(digits))
    return any(shows(digits, value) for value in known[max(0, at - 1) : at + 1])


def unknown(page: str) -> dict[str, list[str]]:
    """Of each section of a page the figures that do not follow from its records."""
    wrong: dict[str, list[str]] = {}
    for section, figure, records in figures_with_records(page):
        if not is_known(figure, records):
            where = min(section.anchors, default="the head of the page")
            wrong.setdefault(where, []).append(figure)
    return wrong


def figures_with_records(page: str) -> Iterator[tuple[Section, str, frozenset[str]]]:
    """The figures of a page, each with its section and with the records that it may follow from."""
    found = sections(page)
    of_page = frozenset().union(*map(records_of, found))
    for section in found:
        if section.anchors & UNMEASURED:
            continue
        whole = page.startswith("# Results\n")
        text = NO_FIGURES[0].sub(" ", section.text)
        for part in [text] if whole else PART.split(text):
            records = linked_by(part) or records_of(section) or of_page
            yield from ((section, figure, records) for figure in figures_in(part))


@pytest.mark.parametrize("page", [*PAGES, "docs/results.md"])
def test_every_figure_of_a_page_follows_from_the_records_of_its_section(page: str) -> None:
    assert unknown((ROOT / page).read_text(encoding="utf-8")) == {}


# ---- rows of tables ----


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def is_a_run(em: str, f1: str, gain: str | None, name: str, records: frozenset[str]) -> bool:
    """Whether one method has this EM, this F1 and this lead over a method of the same student, all three together."""
    runs = [run for record in records for run in runs_named(record) if run.stage != "search"]
    for own in (run for run in runs if run.score == "f1"):
        if not fits(f1, own) or (name in METHODS and not own.method.startswith(METHODS[name])):
            continue
        same = (own.student, own.method, own.values.keys())
        exact = [
            run
            for run in runs
            if run.score == "exact_match" and (run.student, run.method, run.values.keys()) == same
        ]
        others = [run for run in runs if run.score == "f1" and run.student == own.student]
        if any(fits(em, run) for run in exact) and (
            gain is None or any(leads(gain, own, other) for other in others)
        ):
            return True
    return False


METHODS = {"KD": ("kd",), "+ KD": ("kd",), "ITRD": ("itrd", "corr_mi"), "SRD": ("srd",)} | {
    "TextBrewer's own distiller": ("textbrewer",),
    "DistilBERT's cosine": ("distilbert",),
}


def fits(cell: str, runs: Runs) -> bool:
    """Whether a cell shows the mean of these runs, and their deviation where it has one."""
    found = SCORE.fullmatch(cell)
    assert found is not None
    deviation = runs.deviation
    return shows(found[1], runs.mean) and (
        found[2] is None or (deviation is not None and shows(found[2], deviation))
    )


def leads(gain: str, own: Runs, other: Runs) -> bool:
    both = own.values.keys() & other.values.keys()
    if not both:
        return False
    lead = sum(own.values[number] - other.values[number] for number in both) / len(both)
    # Intervals come from scores in 16 bits, so the last digit may be another one.
    return abs(float(gain) - lead) <= 0.5001 * 10 ** -len(gain.partition(".")[2]) + 0.005


def false_rows(page: str) -> list[str]:
    """The rows of a page with EM, F1 and a lead that are not those of one method together."""
    wrong = []
    for section in sections(page):
        records, header = records_of(section), [""]
        for line in section.text.splitlines():
            cells = cells_of(line) if line.startswith("|") else []
            header = header if cells else [""]
            header = cells if cells and header == [""] else header
            lead = next((i for i, cell in enumerate(cells) if LEAD.fullmatch(cell)), 0)
            if header[lead - 2 : lead] == ["EM", "F1"]:
                name, gain = next(cell for cell in cells if cell), cells[lead].split()[0]
                if not is_a_run(*cells[lead - 2 : lead], gain, name, records):
                    wrong.append(line)
    return wrong


def test_each_row_of_a_comparison_has_the_scores_of_one_method() -> None:
    assert false_rows((ROOT / "docs/results.md").read_text(encoding="utf-8")) == []


# ---- what these tests find ----


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
    found = unknown(f"{text}\n\nRecord: [`docs/results/minilm_full/`](results/minilm_full/).\n")
    assert found == ({"the head of the page": missing} if missing else {})


@pytest.mark.parametrize("page", [*PAGES, "docs/results.md"])
def test_most_figures_that_are_wrong_by_a_little_are_found(page: str) -> None:
    """Those with two decimals. One decimal fits some record of a large comparison too often."""
    found, exact = [], []
    for _, figure, records in figures_with_records((ROOT / page).read_text(encoding="utf-8")):
        digits = len(figure.partition(".")[2])
        found.append(not is_known(f"{abs(float(figure)) + 0.3:.{digits}f}", records))
        exact += found[-1:] if digits == 2 else []
    assert len(exact) < 5 or sum(exact) >= 0.7 * len(exact)  # with fewer chance decides
    assert page != "docs/recipes.md" or sum(found) >= 0.3 * len(found)


def test_two_rows_that_change_places_are_found() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    swapped = page.replace("| ITRD | 73.90 | 83.11 |", "| ITRD | 72.98 | 82.38 |")
    assert swapped != page and len(false_rows(swapped)) == 1


# ---- intervals ----

NUMBER = r"[+-]?\d+\.\d+"
WITH_INTERVAL = re.compile(
    rf"(?<![\w.])({NUMBER})((?:F1|[^\[\]\d|]){{0,60}}?)\[({NUMBER})(?:,| to) ({NUMBER})\]"
)
BEHIND = re.compile(r"behind|less|below|fewer|lower")


def outside(page: str) -> list[str]:
    """The figures of a page that do not lie in the interval behind them, with their signs."""
    wrong = []
    for found in WITH_INTERVAL.finditer(page):
        value = float(found[1]) * (-1 if BEHIND.search(found[2]) else 1)
        if not float(found[3]) <= value <= float(found[4]):
            wrong.append(found[0])
    return wrong


@pytest.mark.parametrize("page", [*PAGES, "docs/results.md"])
def test_a_difference_has_the_sign_of_its_interval(page: str) -> None:
    assert outside((ROOT / page).read_text(encoding="utf-8")) == []


def test_a_difference_of_the_other_sign_is_found() -> None:
    assert outside("0.12 F1 behind KD [-0.66 to +0.38], and +1.13 [+0.62, +1.70]") == []
    for false in ("-1.13 [+0.62, +1.70]", "-0.80 [-0.62, +1.70]", "0.62 F1 ahead [-0.66 to 0.38]"):
        assert outside(false) == [false]
