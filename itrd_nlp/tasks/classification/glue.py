"""The tasks of GLUE (Wang et al. 2018) by name: part, columns, splits and metrics of the Hub's `nyu-mll/glue`.

The metrics are those that the benchmark names. MNLI is judged on both halves of its validation data. The test splits
have no labels. No import here loads torch.
"""

from __future__ import annotations

from typing import Any

HUB_ID = "nyu-mll/glue"


def _task(name: str, text: str, pair: str | None, **others: Any) -> dict[str, Any]:
    """The arguments of a task. Its columns keep their names where a table of its own takes the place of the Hub."""
    columns = {"text_column": text, "label_columns": ["label"]}
    if pair is not None:
        columns["text_pair_column"] = pair
    data = {"train_file": HUB_ID, "validation_file": HUB_ID, "dataset_config": name}
    return data | columns | {"metrics": ["accuracy"]} | others


PRESETS: dict[str, dict[str, Any]] = {
    "cola": _task("cola", "sentence", None, metrics=["matthews", "accuracy"]),
    "sst2": _task("sst2", "sentence", None),
    "mrpc": _task(
        "mrpc",
        "sentence1",
        "sentence2",
        metrics=["accuracy", "positive_f1"],
        positive_label="equivalent",
    ),
    "qqp": _task(
        "qqp",
        "question1",
        "question2",
        metrics=["accuracy", "positive_f1"],
        positive_label="duplicate",
    ),
    "stsb": _task(
        "stsb",
        "sentence1",
        "sentence2",
        metrics=["spearman", "pearson"],
        problem_type="regression",
    ),
    "mnli": _task(
        "mnli",
        "premise",
        "hypothesis",
        validation_splits=["validation_matched", "validation_mismatched"],
        metrics=["accuracy", "accuracy_matched", "accuracy_mismatched"],
    ),
    "qnli": _task("qnli", "question", "sentence"),
    "rte": _task("rte", "sentence1", "sentence2"),
    "wnli": _task("wnli", "sentence1", "sentence2"),
}
"""Name of a task to the arguments of `TextArguments` that it sets."""

GLUE = tuple(PRESETS)
