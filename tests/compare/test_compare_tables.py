"""From records to a table: what stands in it, in three formats."""

from __future__ import annotations

import csv
import io
import statistics
from typing import Any

import numpy as np
import pytest

from itrd_nlp.compare import tables
from itrd_nlp.compare.statistics import paired_bootstrap
from itrd_nlp.compare.tables import all_columns, summarise, write_tables
from itrd_nlp.errors import UserError

COLUMNS = all_columns({"exact_match": "EM", "f1": "F1"})
METHODS = {"kd": 0.4, "corr_mi": 0.7}


def lines(markdown: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
        if line.startswith("|")
    ]


def test_a_row_is_mean_and_deviation_over_the_seeds(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS, seeds=3)
    teacher, kd, corr_mi = summarise(records, scores, reference="kd")
    f1 = [100 * float(scores[f"T3/kd/seed{seed}/f1"].mean()) for seed in range(3)]
    assert (kd.main, kd.main_std) == pytest.approx(
        (statistics.mean(f1), statistics.stdev(f1)), abs=0.02
    )
    assert kd.seconds == 201
    assert (teacher.main, teacher.layers, teacher.difference) == (82.08, 6, None)
    assert [row.seeds for row in (teacher, kd, corr_mi)] == [0, 3, 3]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"teacher": {"weights": "b"}}, "T3/itrd/seed1 had teachers with other weights"),
        ({"datasets": {"train": {"sha256": "b"}}}, "T3/itrd/seed1 had another train file"),
    ],
)
def test_trainings_of_another_teacher_or_other_data_are_no_row(
    make_outcome: Any, changes: dict[str, Any], sentence: str
) -> None:
    records, scores = make_outcome({"itrd": 0.5})
    for record in records:
        record["teacher"] |= {"weights": "a"}
        record["datasets"] = {"train": {"sha256": "a"}}
    summarise(records, scores, reference="kd")
    records[1]["datasets"] = {"train": {}}  # a data set of the Hub has no digest
    summarise(records, scores, reference="kd")
    records[1]["teacher"] = records[1]["teacher"] | changes.get("teacher", {})
    records[1]["datasets"] = changes.get("datasets", {})
    with pytest.raises(UserError, match=sentence):
        summarise(records, scores, reference="kd")


def test_the_difference_is_that_of_each_question_and_seed(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS)
    _, kd, corr_mi = summarise(records, scores, reference="kd")
    assert kd.difference is None
    f1 = {
        method: np.stack([100 * scores[f"T3/{method}/seed{n}/f1"].astype(float) for n in (0, 1)])
        for method in METHODS
    }
    assert corr_mi.difference == paired_bootstrap(f1["corr_mi"] - f1["kd"])
    assert corr_mi.difference.mean == pytest.approx(corr_mi.main - kd.main)
    scores["T3/sources"] = np.arange(40) // 10
    _, _, of_articles = summarise(records, scores, reference="kd")
    assert of_articles.difference == paired_bootstrap(
        f1["corr_mi"] - f1["kd"], scores["T3/sources"]
    )
    assert of_articles.difference != corr_mi.difference


def test_a_difference_takes_the_seeds_that_both_have(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS, seeds=3)
    one = [r for r in records if r["name"] in ("T3/kd/seed0", "T3/kd/seed1", "T3/corr_mi/seed1")]
    _, kd, corr_mi = summarise(one, scores, reference="kd")
    gain = scores["T3/corr_mi/seed1/f1"].astype(float) - scores["T3/kd/seed1/f1"]
    assert [row.seeds for row in (kd, corr_mi)] == [2, 1]
    assert corr_mi.difference.mean == pytest.approx(100 * gain.mean())
    none = [r for r in records if r["name"] in ("T3/kd/seed0", "T3/corr_mi/seed1")]
    assert summarise(none, scores, reference="kd")[-1].difference is None


def test_each_student_has_its_own_teacher_and_reference(make_outcome: Any) -> None:
    three, a = make_outcome(METHODS)
    six, b = make_outcome({"corr_mi": 0.8}, student="T6", layers=6)
    rows = summarise([*three, *six], a | b, reference="kd")
    names = [(row.student, row.method) for row in rows]
    assert names == [
        *(("T3", "teacher"), ("T3", "kd"), ("T3", "corr_mi")),
        *(("T6", "teacher"), ("T6", "corr_mi")),
    ]
    assert rows[-1].difference is None  # not trained with the reference


def test_tries_of_a_search_are_in_no_row(make_outcome: Any, make_record: Any) -> None:
    records, scores = make_outcome(METHODS)
    search = make_record("T3", "kd", 9, np.ones(5), stage="search", signature="other")
    assert summarise([search, *records], scores, reference="kd") == summarise(
        records, scores, reference="kd"
    )


def test_different_questions_are_not_compared(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS)
    records[-1]["signature"] = "other"
    with pytest.raises(UserError, match="student T3 were judged on different questions"):
        summarise(records, scores, reference="kd")


def test_a_training_that_was_interrupted_does_not_count_in_the_seconds(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS, seeds=2)
    records[0]["train_seconds"] = None
    _, kd, corr_mi = summarise(records, scores, reference="kd")
    assert (kd.seconds, corr_mi.seconds) == (201, 200.5)
    records[2]["train_seconds"] = None
    _, kd, _ = summarise(records, scores, reference="kd")
    assert kd.seconds is None


def test_markdown_has_the_columns_asked_for_and_says_what_they_are(
    make_outcome: Any, tmp_path: Any
) -> None:
    records, scores = make_outcome(METHODS, seeds=5)
    rows = summarise(records, scores, reference="kd")
    columns = ["f1", "difference", "p_value"]
    text = write_tables(tmp_path, records, rows, columns, reference="kd")
    assert text == (tmp_path / "table.md").read_text()
    header, _, teacher, kd, corr_mi = lines(text)
    assert header == ["student", "method", "F1", "F1 - kd [95% interval]", "p"]
    assert teacher == ["T3", "teacher", "82.08", "-", "-"]
    assert kd[2] == f"{rows[1].main:.2f} ± {rows[1].main_std:.2f}"
    difference = rows[2].difference
    assert corr_mi[3] == f"{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"
    assert corr_mi[4] == "< 0.001"
    assert "40 questions" in text and "10,000 resamples" in text
    assert "over the seeds that both have and over the questions, 10" in text
    text = write_tables(tmp_path, records, rows, columns, reference="kd", sources="articles")
    assert "over the seeds that both have and over the articles of the questions, 10" in text


def test_one_seed_has_no_deviation(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS, seeds=1)
    text = tables.markdown(summarise(records, scores, reference="kd"), ["f1"], reference="kd")
    assert "±" not in text and "nan" not in text


def test_latex_has_booktabs_and_no_character_that_latex_would_take_for_a_command(
    make_outcome: Any,
) -> None:
    records, scores = make_outcome(METHODS, seeds=5)
    rows = summarise(records, scores, reference="kd")
    text = tables.latex(rows, COLUMNS, reference="kd")
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert r"corr\_mi" in text and r"95\% interval" in text and r"$\pm$" in text
    assert "< 0.001" not in text and "$<$ 0.001" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in body} == {len(COLUMNS) + 1}
    assert text.isascii()


def test_csv_has_all_figures_unrounded(make_outcome: Any) -> None:
    records, scores = make_outcome(METHODS)
    rows = summarise(records, scores, reference="kd")
    teacher, kd, corr_mi = csv.DictReader(io.StringIO(tables.csv(rows)))
    assert float(kd["f1"]) == rows[1].main
    assert float(corr_mi["f1_difference_low"]) == rows[2].difference.low
    assert float(corr_mi["p_value"]) == rows[2].difference.p_value
    assert teacher["f1_difference"] == kd["p_value"] == teacher["f1_std"] == ""
