"""Every table and every interval of docs/results.md is that of a recorded comparison."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from itrd_nlp.compare.comparison import read_records
from itrd_nlp.compare.statistics import Difference, paired_bootstrap
from itrd_nlp.compare.tables import all_columns, markdown, summarise
from itrd_nlp.errors import UserError

ROOT = Path(__file__).parents[1]
POOLED = sorted((ROOT / "docs/results").glob("*_three_seeds.json"))
RECORDED = sorted(path.parent for path in (ROOT / "docs/results").glob("*/scores.npz"))
sys.path.append(str(ROOT / "docs/tools"))
pooled = importlib.import_module("pooled")
INTERVAL = re.compile(r"\[([+-]?\d+\.\d+)(?:,| to) ([+-]?\d+\.\d+)\]")


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("folder", RECORDED, ids=named)
def test_a_table_is_that_of_its_records(folder: Path) -> None:
    config = yaml.safe_load((ROOT / f"configs/compare/{folder.name}.yaml").read_text())
    reference = config.get("reference", "kd")
    main = {"ranking": "ndcg_10", "embedding": "recall_1", "embedding_first": "recall_1"}
    records, scores = read_records(folder)
    # Records of earlier versions do not name their main metric.
    metric = records[0].get("main_metric") or main.get(folder.name, "f1")
    rows = summarise(records, scores, reference=reference, main_metric=metric)
    columns = config.get("table") or all_columns(rows[0].metrics)
    table = markdown(rows, columns, reference=reference)
    assert (folder / "table.md").read_text().startswith(table)


@pytest.mark.parametrize("folder", RECORDED, ids=named)
def test_the_articles_of_the_questions_are_known(folder: Path) -> None:
    _, scores = read_records(folder)
    sources = [values for name, values in scores.items() if name.endswith("/sources")]
    # SQuAD's dev file has 48 articles; plain text is judged on those that are held out of its train file.
    articles = 22 if folder.name in ("masked_lm", "masked_lm_encoder") else 48
    assert sources and all(len(np.unique(values)) == articles for values in sources)


@pytest.mark.parametrize("path", POOLED, ids=named)
def test_comparisons_taken_together_are_those_of_their_records(path: Path) -> None:
    record = json.loads(path.read_text())
    words = {name: record[name] for name in ("method", "reference")}
    assert pooled.pooled(record["comparisons"], **words) == record
    for student, figures in record["students"].items():
        assert len(figures["seeds"]) == 3
        for metric in pooled.METRICS:
            method, reference = (
                [
                    row[metric]
                    for name in record["comparisons"]
                    for row in read_records(ROOT / "docs/results" / name)[0]
                    if (row["student"], row["method"]) == (student, record[which])
                ]
                for which in ("method", "reference")
            )
            gains = [ours - theirs for ours, theirs in zip(method, reference, strict=True)]
            assert figures[metric]["gains"] == pytest.approx(gains, abs=1e-4)
            assert figures[metric]["difference"]["mean"] == pytest.approx(
                statistics.mean(gains), abs=1e-4
            )


def test_comparisons_with_a_seed_in_common_are_not_taken_together() -> None:
    with pytest.raises(UserError, match=r"the same seed of T6; the seeds are \[0, 0\]"):
        pooled.pooled(["mpnet_best_rates", "mpnet_best_rates"], method="itrd", reference="kd")


@pytest.mark.parametrize(
    ("comparisons", "method", "sentence"),
    [
        ([], "itrd", "are taken together, but --comparisons has fewer"),
        (["mpnet_seeds"], "itrd", "are taken together, but --comparisons has fewer"),
        (["mpnet_seeds", "mpnet_sedes"], "itrd", "but mpnet_sedes has no results.jsonl"),
        (["mpnet_seeds", "mpnet_best_rates"], "itrdd", "was trained by itrdd and kd"),
    ],
)
def test_records_that_are_missing_are_one_sentence(
    comparisons: list[str], method: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        pooled.pooled(comparisons, method=method, reference="kd")


def test_comparisons_of_other_questions_are_not_taken_together() -> None:
    with pytest.raises(UserError, match="the trainings of T6 were judged on different questions"):
        pooled.pooled(["mpnet_first", "mpnet_seeds"], method="itrd", reference="kd")


def test_the_figures_of_the_digits_are_those_of_their_record() -> None:
    record = json.loads((ROOT / "docs/results/digits/digits.json").read_text())
    page = (ROOT / "docs/results.md").read_text()
    for method, name in (("kd", "KD"), ("itrd", "KD and ITRD")):
        values = record["accuracy"][method]
        each = ", ".join(f"{value:.2f}" for value in values)
        assert f"| {name} | {each} | {sum(values) / len(values):.2f} |" in page
    found = record["differences"]["itrd - kd"]
    low, high = found["interval"]
    assert f"mean difference is {found['mean']:.2f} points" in page
    assert f"goes from {low:.2f} to {high:+.2f}." in page


def test_the_deviation_over_seeds_is_that_of_the_recorded_methods() -> None:
    f1: dict[str, dict[int, float]] = {}
    for record in read_records(ROOT / "docs/results/minilm_first")[0]:
        f1.setdefault(record["method"], {})[record["seed"]] = record["f1"]
    deviations = [
        statistics.stdev(f1[method][seed] - f1["kd"][seed] for seed in (0, 1, 2))
        for method in f1
        if method != "kd"
    ]
    page = " ".join((ROOT / "docs/results.md").read_text().split())
    assert (
        f"has a standard deviation of {statistics.median(deviations):.1f} F1 over three seeds "
        f"(the median of {len(deviations)} methods)" in page
    )


def test_the_tries_of_the_page_are_those_of_their_record() -> None:
    page = (ROOT / "docs/results.md").read_text()
    section = page[page.index('<a id="six-tries-each">') : page.index("## How does TextBrewer")]
    records, scores = read_records(ROOT / "docs/results/minilm_tuned")
    shown = {value.strip(" *") for line in section.splitlines() for value in line.split("|")}
    tries = [record for record in records if record["stage"] == "search"]
    assert len(tries) == 12 and {f"{record['f1']:.2f}" for record in tries} <= shown
    for row in summarise(records, scores, reference="kd")[1:]:
        for name in ("exact_match", "f1"):
            mean, deviation = row.scores[name]
            assert f"{mean:.2f} ± {deviation:.2f}" in shown


@pytest.mark.slow
def test_every_interval_of_the_pages_is_that_of_a_record() -> None:
    """Each is the difference of two methods, or of two students with one method, in one comparison."""
    missing = {
        (page, match[0], match[1], match[2])
        for page in ("README.md", "docs/results.md", "docs/recipes.md", "docs/squad_v2.md")
        for match in INTERVAL.finditer((ROOT / page).read_text())
    }
    assert len(missing) > 80
    for found in itertools.chain(in_the_tables(), of_images(), of_several(), of_all_pairs()):
        if not missing:
            break
        missing = {m for m in missing if not is_shown(found, m[2], m[3])}
    assert not {(page, shown) for page, shown, *_ in missing}


def is_shown(found: Difference, low: str, high: str) -> bool:
    """Whether an interval of a page is this one, with the digits and the signs of the page."""
    decimals = len(low.partition(".")[2])
    return any(
        abs(float(low) - a) <= 0.5001 * 10**-decimals
        and abs(float(high) - b) <= 0.5001 * 10**-decimals
        for a, b in ((found.low, found.high), (-found.high, -found.low))
    )


def in_the_tables() -> Iterator[Difference]:
    """Those of the main metric of each comparison, whatever it is called."""
    for path in (ROOT / "docs/results").rglob("table.csv"):
        with path.open() as file:
            for row in csv.DictReader(file):
                for name in [name for name in row if name.endswith("_difference") and row[name]]:
                    drawn = (float(row[name + end]) for end in ("", "_low", "_high"))
                    yield Difference(*drawn, p_value=1.0)


def of_images() -> Iterator[Difference]:
    """Those over the seeds of the experiments on images."""
    for path in (ROOT / "docs/results").glob("digits*/*.json"):
        for found in json.loads(path.read_text())["differences"].values():
            yield Difference(found["mean"], *found["interval"], p_value=1.0)


def of_several() -> Iterator[Difference]:
    """Those of comparisons taken together."""
    for path in POOLED:
        for figures in json.loads(path.read_text())["students"].values():
            for metric in pooled.METRICS:
                yield Difference(**figures[metric]["difference"])


def of_all_pairs() -> Iterator[Difference]:
    """Those that no table shows, because neither of the two is its reference."""
    for folder in RECORDED:
        records, scores = read_records(folder)
        trained: dict[tuple[str, str], dict[str, Any]] = {}
        for record in records:
            if record["stage"] == "cells" and "f1" in record:
                key = (record["student"], record["method"])
                values = scores[f"{record['name']}/f1"].astype(np.float64)
                trained.setdefault(key, {})[record["name"].rpartition("/")[2]] = 100 * values
        for (a, of_a), (b, of_b) in itertools.combinations(trained.items(), 2):
            both = sorted(of_a.keys() & of_b.keys())
            if both and (a[0] == b[0] or a[1] == b[1]):
                gains = np.stack([of_a[seed] - of_b[seed] for seed in both])
                yield paired_bootstrap(gains, scores[f"{a[0]}/sources"])
