"""The metrics against scikit-learn, scipy and seqeval, and their rows against a bootstrap that computes them anew."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.stats
import seqeval.metrics
import sklearn.metrics
from sklearn.preprocessing import MultiLabelBinarizer
from transformers import EvalPrediction

from itrd_nlp.tasks.classification.data import kind_of, label_names
from itrd_nlp.tasks.classification.entities import are_tags, as_iob2, entities
from itrd_nlp.tasks.classification.judge import RowsJudge, numbers
from itrd_nlp.tasks.classification.measures import possible_metrics, row_scores, score

Rows = list[dict[str, Any]]
TAGS = {
    "IOB2": ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "IOBES": ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-B-C", "E-B-C", "S-B-C"],
}


def tag_rows(scheme: str, count: int, seed: int) -> tuple[Rows, dict[str, Any]]:
    """Random tags, most of which break the rules of the scheme, and answers that agree with two of three."""
    draw = random.Random(seed)
    rows, answers = [], {}
    for i in range(count):
        tags = draw.choices(TAGS[scheme], k=draw.randint(1, 12))
        rows.append({"tokens": ["a"] * len(tags), "labels": tags})
        answers[str(i)] = [
            tag if draw.random() < 0.7 else draw.choice(TAGS[scheme]) for tag in tags
        ]
    return rows, answers


def label_rows(names: str, count: int, seed: int) -> tuple[Rows, dict[str, Any]]:
    draw = random.Random(seed)
    rows = [{"text": "a", "label": draw.choice(names)} for _ in range(count)]
    answers = {
        str(i): row["label"] if draw.random() < 0.6 else draw.choice(names)
        for i, row in enumerate(rows)
    }
    return rows, answers


def several_rows(count: int, seed: int) -> tuple[Rows, dict[str, Any]]:
    draw = random.Random(seed)

    def some() -> list[str]:
        return sorted(name for name in "abcd" if draw.random() < 0.4)

    rows = [{"text": "a", "labels": some()} for _ in range(count)]
    answers = {
        str(i): row["labels"] if draw.random() < 0.4 else some() for i, row in enumerate(rows)
    }
    return rows, answers


def number_rows(count: int, seed: int) -> tuple[Rows, dict[str, Any]]:
    """Numbers with many equal ones among the true ones, as those of STS-B."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, 11, count) / 2
    found = true + draw.normal(0, 2, count)
    rows = [{"text": "a", "label": float(one)} for one in true]
    return rows, {str(i): round(float(one), 1) for i, one in enumerate(found)}


CASES = {
    "two": label_rows("ab", 60, 1),
    "five": label_rows("abcde", 60, 2),
    "several": several_rows(60, 3),
    "numbers": number_rows(60, 4),
    "tags": tag_rows("IOB2", 60, 5),
}


def by_libraries(rows: Rows, answers: dict[str, Any]) -> dict[str, float]:
    """Every metric as the libraries compute it."""
    kind = kind_of(rows)
    found = [answers[str(i)] for i in range(len(rows))]
    if kind == "value":
        true = [row["label"] for row in rows]
        return {
            "pearson": scipy.stats.pearsonr(true, found).statistic,
            "spearman": scipy.stats.spearmanr(true, found).statistic,
        }
    if kind == "label":
        true = [row["label"] for row in rows]
        scores = {
            "accuracy": sklearn.metrics.accuracy_score(true, found),
            "f1": sklearn.metrics.f1_score(true, found, average="macro"),
            "matthews": sklearn.metrics.matthews_corrcoef(true, found),
        }
        if len(set(true)) == 2:
            scores["positive_f1"] = sklearn.metrics.f1_score(true, found, pos_label="b")
        return scores
    if kind == "labels":
        encoder = MultiLabelBinarizer(classes=list("abcd"))
        matrix = encoder.fit_transform([row["labels"] for row in rows])
        other = encoder.transform(found)
        return {
            "micro_f1": sklearn.metrics.f1_score(matrix, other, average="micro"),
            "macro_f1": sklearn.metrics.f1_score(matrix, other, average="macro"),
            "accuracy": sklearn.metrics.accuracy_score(matrix, other),
        }
    true = [row["labels"] for row in rows]
    flat = [[tag for tags in side for tag in tags] for side in (true, found)]
    named = sorted({tag for side in flat for tag in side} - {"O"})
    return {
        "f1": sklearn.metrics.f1_score(*flat, labels=named, average="micro"),
        "entity_f1": seqeval.metrics.f1_score(true, found),
        "entity_precision": seqeval.metrics.precision_score(true, found),
        "entity_recall": seqeval.metrics.recall_score(true, found),
        "accuracy": seqeval.metrics.accuracy_score(true, found),
    }


@pytest.mark.parametrize("case", CASES)
def test_metrics_are_those_of_scikit_learn_scipy_and_seqeval(case):
    rows, answers = CASES[case]
    expected = by_libraries(rows, answers)
    found = {name: score(name, rows, answers, "b") for name in expected}
    assert found == pytest.approx({name: 100 * one for name, one in expected.items()}, abs=1e-9)
    untested = set(possible_metrics(kind_of(rows), label_names(rows))) - expected.keys()
    assert untested <= {"positive_f1", "accuracy_matched", "accuracy_mismatched"}


@pytest.mark.parametrize("metric", ["micro_f1", "macro_f1"])
def test_thousands_of_labels_need_no_table_of_rows_and_labels(metric):
    names = [f"label {i:04}" for i in range(4000)]
    of_rows = [[names[(40 * i + j) % 4000] for j in range(40)] for i in range(250)]
    rows = [{"text": "a", "labels": labels} for labels in of_rows]
    answers = {str(i): [*labels[: i % 40], names[i]] for i, labels in enumerate(of_rows)}
    found, peaks = [], []
    for of_metric in (score, row_scores):
        tracemalloc.start()
        try:
            found.append(of_metric(metric, rows, answers))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert max(peaks) < 20e6  # the table has 3 million numbers
    encoder = MultiLabelBinarizer(classes=names)
    matrix = encoder.fit_transform([row["labels"] for row in rows])
    other = encoder.transform([answers[str(i)] for i in range(len(rows))])
    expected = sklearn.metrics.f1_score(matrix, other, average=metric.removesuffix("_f1"))
    assert found[0] == pytest.approx(100 * expected, abs=1e-9)
    assert 100 * found[1].mean() == pytest.approx(found[0], abs=1e-9)


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1.0, 1e9])
def test_the_unit_of_the_labels_of_a_regression_does_not_change_its_score(unit):
    rows, answers = CASES["numbers"]
    expected = by_libraries(rows, answers)
    scaled = [{"text": "a", "label": unit * row["label"]} for row in rows]
    judge = RowsJudge(scaled, numbers, ["spearman", "pearson"], None)
    found = np.array([answers[str(i)] for i in range(len(rows))])
    scores = judge(EvalPrediction((unit * found).astype(np.float32), None))
    assert scores == pytest.approx({k: 100 * v for k, v in expected.items()}, abs=1e-4)
    perfect = np.array([row["label"] for row in scaled], dtype=np.float32)
    assert judge(EvalPrediction(perfect, None)) == pytest.approx({"spearman": 100, "pearson": 100})


@pytest.mark.parametrize("scheme", TAGS)
def test_entities_are_those_of_seqeval_in_rows_that_break_every_rule(scheme):
    from seqeval.metrics.sequence_labeling import get_entities

    for seed in range(30):
        rows, _ = tag_rows(scheme, 20, seed)
        for row in rows:
            expected = [(kind, start, end + 1) for kind, start, end in get_entities(row["labels"])]
            assert sorted(entities(row["labels"])) == sorted(expected), row


@pytest.mark.parametrize("case", CASES)
def test_the_mean_over_the_rows_is_the_metric_also_with_missing_answers(case):
    rows, answers = CASES[case]
    fewer = {key: answer for key, answer in answers.items() if int(key) % 7}
    for some in (answers, fewer, {}):
        for name in possible_metrics(kind_of(rows), label_names(rows)):
            values = row_scores(name, rows, some, "b")
            assert values.shape == (len(rows),)
            assert 100 * values.mean() == pytest.approx(score(name, rows, some, "b"), abs=1e-9)


@pytest.mark.parametrize(
    ("case", "metric"),
    [
        ("five", "matthews"),
        ("five", "f1"),
        ("several", "micro_f1"),
        ("numbers", "pearson"),
        ("numbers", "spearman"),
        ("tags", "entity_f1"),
        ("tags", "accuracy"),
    ],
)
def test_resampled_rows_spread_as_the_metric_of_resampled_examples_does(case, metric):
    make = {
        "five": lambda: label_rows("abcde", 200, 7),
        "several": lambda: several_rows(200, 7),
        "numbers": lambda: number_rows(200, 7),
        "tags": lambda: tag_rows("IOB2", 200, 7),
    }
    rows, answers = make[case]()
    values = row_scores(metric, rows, answers)
    draws = np.random.default_rng(0).integers(len(rows), size=(200, len(rows)))
    linear = [100 * values[draw].mean() for draw in draws]
    anew = []
    for draw in draws:
        again = {str(i): answers[str(k)] for i, k in enumerate(draw)}
        anew.append(score(metric, [rows[k] for k in draw], again))
    assert np.std(linear) == pytest.approx(np.std(anew), rel=0.1)
    assert np.corrcoef(linear, anew)[0, 1] > 0.98


def test_rows_of_tokens_differ_by_1_between_a_model_that_is_right_and_one_that_is_wrong():
    """However many tokens they have: no row of the two models says that the difference might be another one."""
    rows = [{"tokens": ["a"] * count, "labels": ["x"] * count} for count in (1, 2, 40)]
    right = {str(i): row["labels"] for i, row in enumerate(rows)}
    wrong = {name: ["y"] * len(labels) for name, labels in right.items()}
    both = [row_scores("accuracy", rows, answers) for answers in (right, wrong)]
    assert both[0] - both[1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("rows", "answers"),
    [
        ([{"text": "a", "label": "x"}] * 3, {"0": "x", "1": "x", "2": "x"}),
        ([{"text": "a", "label": 1.5}] * 3, {"0": 2.0, "1": 3.0, "2": 4.0}),
        ([{"text": "a", "label": 1.1}, {"text": "a", "label": 2.2}], {"0": 0.1, "1": 0.1}),
        ([{"text": "a", "labels": []}] * 2, {"0": [], "1": []}),
        ([{"tokens": ["a"], "labels": ["O"]}] * 2, {"0": ["O"], "1": ["O"]}),
    ],
)
def test_what_is_not_defined_counts_0(rows, answers):
    kind = kind_of(rows)
    for name in possible_metrics(kind, label_names(rows)):
        if not name.startswith("accuracy") and not (kind == "label" and name == "f1"):
            assert score(name, rows, answers, "y") == 0
            assert np.isfinite(row_scores(name, rows, answers, "y")).all()


def test_both_halves_of_mnli_are_judged_by_themselves():
    rows = [{"text": "a", "label": "x", "split": f"validation_{s}matched"} for s in ("", "", "mis")]
    answers = {"0": "x", "1": "y", "2": "y"}
    found = {half: score(f"accuracy{half}", rows, answers) for half in ("", "_matched")}
    assert found == pytest.approx({"": 100 / 3, "_matched": 50})
    assert score("accuracy_mismatched", rows, answers) == 0
    assert row_scores("accuracy_matched", rows, answers).mean() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("tags", "iob2"),
    [
        ("I-A I-A O I-A B-A I-A", "B-A I-A O B-A B-A I-A"),  # IOB1
        ("B-A I-A O B-B", "B-A I-A O B-B"),
        ("I-A I-B O", "B-A B-B O"),
        ("B-A E-A S-B", "B-A E-A S-B"),  # IOBES stays
    ],
)
def test_iob1_becomes_iob2_with_the_same_entities(tags, iob2):
    assert as_iob2(tags.split()) == iob2.split()
    assert entities(tags.split()) == entities(iob2.split())


def test_labels_are_tags_where_all_of_them_look_so():
    assert are_tags(["O", "B-PER", "I-PER"])
    assert are_tags(["S-X-Y"])
    assert not are_tags(["O"])
    assert not are_tags(["O", "B-PER", "CITY"])
    assert not are_tags(["answered", "not_answered"])
