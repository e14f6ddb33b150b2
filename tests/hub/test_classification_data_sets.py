"""Data of the Hub by their names, in the format that they have there: parquet with features, and a card of parts."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import pipeline

from itrd_nlp.cli.main import subcommands
from itrd_nlp.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from server import Blob, Commit, Repo

WORDS = ["the", "rhine", "flows", "past", "bonn", "and", "basel", "badly"]
PAIR = {"sentence1": Value("string"), "sentence2": Value("string")}
GLUE = {
    "sst2": {"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"])},
    "cola": {
        "sentence": Value("string"),
        "label": ClassLabel(names=["unacceptable", "acceptable"]),
    },
    "mrpc": PAIR | {"label": ClassLabel(names=["not_equivalent", "equivalent"])},
    "stsb": PAIR | {"label": Value("float32")},
    "mnli": {
        "premise": Value("string"),
        "hypothesis": Value("string"),
        "label": ClassLabel(names=["entailment", "neutral", "contradiction"]),
    },
}
SPLITS = {"mnli": ("train", "validation_matched", "validation_mismatched")}
TAGS = [f"{b}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for b in "BI"]


def glue_rows(name: str, count: int) -> list[dict[str, Any]]:
    texts = [n for n, feature in GLUE[name].items() if feature == Value("string")]
    rows = []
    for i in range(count):
        row: dict[str, Any] = {
            n: " ".join(WORDS[(i + j + k) % 7] for j in range(3)) for k, n in enumerate(texts)
        }
        label = GLUE[name]["label"]
        row["label"] = i % len(label.names) if isinstance(label, ClassLabel) else (i % 11) / 2
        if row["label"] == 0:
            row[texts[0]] += " badly"
        rows.append(row | {"idx": i})
    return rows


def as_parquet(rows: list[dict[str, Any]], features: dict[str, Any], path: Path) -> bytes:
    Dataset.from_list(rows, features=Features(features)).to_parquet(path)
    return path.read_bytes()


@pytest.fixture
def data_hub(as_default_hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The Hub with the data sets that the configs name, some rows of each."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", as_default_hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files: dict[str, bytes] = {}
    parts = []
    for name, features in GLUE.items():
        lines = [f"- config_name: {name}", "  data_files:"]
        for split in SPLITS.get(name, ("train", "validation")):
            features = {**GLUE[name], "idx": Value("int32")}
            rows = glue_rows(name, 22)
            files[f"{name}/{split}-00000-of-00001.parquet"] = as_parquet(
                rows, features, tmp_path / "a"
            )
            lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
        parts += lines
    files["README.md"] = ("---\nconfigs:\n" + "\n".join(parts) + "\n---\n# GLUE\n").encode()
    put(as_default_hub, "nyu-mll/glue", files)
    features = {
        "id": Value("string"),
        "tokens": List(Value("string")),
        "ner_tags": List(ClassLabel(names=["O", *TAGS])),
    }
    rows = [
        {
            "id": str(i),
            "tokens": words,
            "ner_tags": [5 if w in ("bonn", "basel") else 0 for w in words],
        }
        for i in range(22)
        for words in [[WORDS[(i + j) % 7] for j in range(4)]]
    ]
    conll = {
        f"data/{split}-00000-of-00001.parquet": as_parquet(rows, features, tmp_path / "a")
        for split in ("train", "validation", "test")
    }
    put(as_default_hub, "lhoestq/conll2003", conll | {"README.md": b"# CoNLL-2003\n"})
    yield as_default_hub


def put(hub: Any, name: str, files: dict[str, bytes]) -> None:
    tree = {path: Blob(content) for path, content in files.items()}
    hub.repos[f"datasets/{name}"] = Repo(
        name, "datasets", False, None, {"main": Commit("data", None, tree)}
    )


@pytest.fixture
def encoder(tmp_path: Path, make_reader: Any) -> str:
    for part in make_reader(WORDS, 2, initializer_range=0.05, max_position_embeddings=256):
        part.save_pretrained(tmp_path / "encoder")
    return str(tmp_path / "encoder")


def run(name: str, *arguments: str) -> None:
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[name].stem}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"itrd-nlp {name}", *arguments])
        module.main()


FEW = ("--num_train_epochs", "1", "--per_device_train_batch_size", "11", "--bf16", "false")


@pytest.mark.parametrize(
    ("name", "metrics", "labels"),
    [
        ("cola", ["matthews", "accuracy"], ["unacceptable", "acceptable"]),
        pytest.param(
            *("mrpc", ["accuracy", "positive_f1"], ["not_equivalent", "equivalent"]),
            marks=pytest.mark.slow,
        ),
        pytest.param("sst2", ["accuracy"], ["negative", "positive"], marks=pytest.mark.slow),
        pytest.param("stsb", ["spearman", "pearson"], ["value"], marks=pytest.mark.slow),
        (
            "mnli",
            ["accuracy", "accuracy_matched", "accuracy_mismatched"],
            ["entailment", "neutral", "contradiction"],
        ),
        ("conll2003", None, ["O", *TAGS]),
    ],
)
def test_the_configs_of_the_hub_train_teachers_with_the_labels_and_metrics_of_their_data(
    data_hub, encoder, tmp_path, monkeypatch, name, metrics, labels
):
    monkeypatch.chdir(tmp_path)
    own = ("--model_name_or_path", encoder, "--output_dir", "teacher")
    run("train-classifier", f"{name}_teacher", *FEW, *own)
    record = json.loads(Path("teacher/results.json").read_text())
    config = json.loads(Path("teacher/config.json").read_text())
    assert [config["id2label"][str(i)] for i in range(len(labels))] == labels
    if metrics is None:
        assert list(record["metrics"])[:3] == ["entity_f1", "entity_precision", "entity_recall"]
    else:
        assert list(record["metrics"]) == metrics
    assert record["rows"] == (44 if name == "mnli" else 22)
    known = record["datasets"]["validation"]
    assert known["name"] == ("lhoestq/conll2003" if name == "conll2003" else "nyu-mll/glue")
    assert known.get("config") == (None if name == "conll2003" else name)
    card = Path("teacher/README.md").read_text()
    assert f"- {known['name']}" in card  # the Hub links it
    if name != "conll2003":
        assert f"config: {name}" in card
        assert f"{record['rows']} rows of {known['name']} ({name})" in card


def test_a_student_of_glue_is_distilled_judged_and_used_by_transformers(
    data_hub, encoder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run(
        "train-classifier",
        "stsb_teacher",
        *FEW,
        "--model_name_or_path",
        encoder,
        "--output_dir",
        "teacher",
    )
    own = ("--teacher", "teacher", "--num_layers", "1", "--output_dir", "student")
    run("distil-classifier", "stsb_t6", *FEW, *own)
    record = json.loads(Path("student/results.json").read_text())
    assert (
        record["teacher"]["spearman"]
        == json.loads(Path("teacher/results.json").read_text())["spearman"]
    )
    (found,) = pipeline("text-classification", "student")(
        [{"text": "the rhine", "text_pair": "bonn"}]
    )
    assert found["label"] == "value"


def test_labels_without_names_are_those_of_the_data_by_their_numbers(
    data_hub, encoder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    own = ("--model_name_or_path", encoder, "--output_dir", "teacher")
    run("train-classifier", "cola_teacher", *FEW, *own)
    config = json.loads(Path("teacher/config.json").read_text())
    names = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    Path("teacher/config.json").write_text(json.dumps(config | names))
    run("evaluate", "--task", "classification", "--model", "teacher", "--glue", "cola")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["matthews"] == json.loads(Path("teacher/results.json").read_text())["matthews"]


def test_a_part_that_is_not_there_is_named(data_hub, encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = ("--model_name_or_path", encoder, "--output_dir", "teacher")
    with pytest.raises(
        UserError, match=r"nyu-mll/glue: this is neither a file nor a data set with 'rte'"
    ):
        run("train-classifier", "sst2_teacher", *FEW, *own, "--glue", "rte")
    assert not Path("teacher").exists()
