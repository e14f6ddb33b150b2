"""The experiments on images: the configs can be read, and the section of the page is that of the record."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from transformers import ResNetConfig

from itrd_nlp.distillation.arguments import ITRDTrainingArguments

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "images"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module")
def images() -> ModuleType:
    """The script; it is no part of the package that is installed."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.images import __main__ as script
    finally:
        sys.path.remove(str(ROOT))
    return script


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_method_of_an_experiment_has_arguments_that_exist(
    path: Path, images: ModuleType, tmp_path: Path
) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert list(config["methods"])[:2] in (["kd", "itrd"], ["kd_1", "itrd_1"])
    for objective in (images.ALONE, *config["methods"].values()):
        args = ITRDTrainingArguments(
            output_dir=str(tmp_path),
            report_to="none",
            **images.VIEWS | objective | config["training"],
        )
        assert args.corr_view == "pooled"
    for role in ("teacher", "student"):
        if not isinstance(config[role], str):
            assert set(config[role]) <= set(vars(ResNetConfig()))


def test_methods_differ_in_the_terms_of_itrd_alone() -> None:
    pairs = 0
    for path in FILES:
        methods = yaml.safe_load(path.read_text(encoding="utf-8"))["methods"]
        for itrd in (name for name in methods if name.startswith("itrd")):
            objective, kd = methods[itrd], methods[itrd.replace("itrd", "kd")]
            changed = {name for name in objective if objective[name] != kd.get(name)}
            assert changed == {"beta_corr", "beta_mi", "alpha"}, path
            pairs += 1
    assert pairs == len(FILES) + 1


@pytest.mark.parametrize(
    ("name", "method"), [("digits", "kd"), ("digits", "itrd"), ("digits_bits", "itrd_1")]
)
def test_an_epoch_on_some_digits_runs(images: ModuleType, name: str, method: str) -> None:
    config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    rows, test, classes = images.digits(config["size"])
    assert (len(rows), len(test), classes) == (1437, 360, 10)
    teacher, student = (
        images.network(config[role], classes, 0, trained=True) for role in ("teacher", "student")
    )
    training = config["training"] | {"num_train_epochs": 1}
    score = images.train(
        student, teacher, (rows[:128], test[:64]), config["methods"][method], training, 1
    )
    assert 0 <= score <= 100


@pytest.mark.parametrize(
    ("name", "difference", "seeds", "quantile"),  # Student's t at 97.5%, of one less than the seeds
    [
        ("digits", "itrd - kd", 3, 4.3027),
        ("digits_bits", "itrd_1 - kd_1", 5, 2.7764),
        ("digits_bits", "itrd_4 - kd_4", 5, 2.7764),
        ("digits_bits", "labels_1 - kd_1", 5, 2.7764),
    ],
)
def test_the_recorded_difference_is_that_of_its_scores(
    name: str, difference: str, seeds: int, quantile: float
) -> None:
    path = ROOT / "docs" / "results" / name / f"{name}.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    second, first = (record["accuracy"][method] for method in difference.split(" - "))
    assert len(first) == len(second) == seeds
    values = [b - a for a, b in zip(first, second, strict=True)]
    found = record["differences"][difference]
    assert found["mean"] == pytest.approx(statistics.fmean(values))
    reach = quantile * statistics.stdev(values) / seeds**0.5
    assert found["interval"] == pytest.approx(
        [found["mean"] - reach, found["mean"] + reach], abs=0.01
    )


def test_the_page_shows_the_recorded_digits() -> None:
    path = ROOT / "docs" / "results" / "digits" / "digits.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for method in ("kd", "itrd"):
        scores = record["accuracy"][method]
        assert f"{statistics.fmean(scores):.2f}" in page
    low, high = record["differences"]["itrd - kd"]["interval"]
    assert f"from {low:+.2f} to {high:+.2f}" in page


def test_the_page_shows_the_recorded_students_of_few_bits() -> None:
    path = ROOT / "docs" / "results" / "digits_bits" / "digits_bits.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for method, label, bits in (
        ("kd", "KD", 32),
        ("kd_4", "KD", 4),
        ("itrd_4", "KD and ITRD", 4),
        ("kd_1", "KD", 1),
        ("itrd_1", "KD and ITRD", 1),
        ("labels_1", "labels alone", 1),
    ):
        scores = record["accuracy"][method]
        shown = ", ".join(f"{score:.2f}" for score in scores)
        megabytes = record["megabytes"][method]
        assert (
            f"| {label} | {bits} | {megabytes:.4f} | {shown} | {statistics.fmean(scores):.2f} |"
            in page
        )
    for name, sign in (
        ("itrd_1 - kd_1", 1),
        ("itrd_4 - kd_4", 1),
        ("kd - kd_4", -1),
        ("kd - kd_1", -1),
        ("labels_1 - kd_1", 1),
    ):
        found = record["differences"][name]
        low, high = sorted(sign * bound for bound in found["interval"])
        assert f"{sign * found['mean']:+.2f} points [{low:+.2f}, {high:+.2f}]" in page or (
            f"{sign * found['mean']:+.2f} [{low:+.2f}, {high:+.2f}]" in page
        )
