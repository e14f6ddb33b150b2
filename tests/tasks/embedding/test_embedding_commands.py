"""Every job on embedders, by the commands as a user gives them, with tiny models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))  # test folders are no packages

from commands import done, read, refused, rows_of, write_rows

WORDS = ["rhine", "elbe", "oder", "spree", "flows", "past", "bonn", "and", "basel", "where"]
RIVERS = WORDS[:4]
TRAINING = {
    "num_train_epochs": 6,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "train_sampling_strategy": "group_by_length",
    "save_strategy": "no",
    "logging_steps": 10,
    "report_to": "none",
    "disable_tqdm": True,
    "max_length": 24,
}
STUDENT = {"num_layers": 2, "w_task": 0.0, "mi_view": "pooled", "teacher": "teacher"}


def query(i: int) -> dict[str, Any]:
    """The passage that names the river of the query is relevant."""
    names = [RIVERS[(i + j) % 4] for j in range(2 + i % 3)]
    passages = [f"{name} flows past {WORDS[(i * 3 + j) % 10]}" for j, name in enumerate(names)]
    return {
        "query": f"where {names[0]} {WORDS[i % 10]}",
        "passages": passages[::-1],
        "labels": [0] * (len(names) - 1) + [1],
    }


def pair(i: int) -> dict[str, Any]:
    """The more words in common, the more alike."""
    words = [WORDS[(i * 3 + j) % 10] for j in range(4)]
    other = [*words[: i % 5], *[WORDS[(i * 7 + j) % 10] for j in range(4 - i % 5)]]
    score = len(set(words) & set(other)) / 4
    return {"text": " ".join(words), "text_pair": " ".join(other), "score": score}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    """A folder with data, a teacher, and a student for each task, made by the commands."""
    folder = tmp_path_factory.mktemp("embedders")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for part in make_reader(WORDS, 4, initializer_range=0.05, max_position_embeddings=64):
            part.save_pretrained("encoder")
        write_rows("queries-train.jsonl", [query(i) for i in range(40)])
        write_rows("queries-dev.jsonl", [query(i) for i in range(40, 64)])
        write_rows("pairs-dev.jsonl", [pair(i) for i in range(20)])
        write_rows("pairs-train.jsonl", [pair(i) for i in range(20, 60)])
        write_rows("texts.jsonl", [{"text": query(i)["passages"][0]} for i in range(40)])
        queries = {"train_file": "queries-train.jsonl", "validation_file": "queries-dev.jsonl"}
        pairs = {"train_file": "texts.jsonl", "validation_file": "pairs-dev.jsonl"}
        for name, own in (
            ("teacher", {"task": "embedding", "model_name_or_path": "encoder"} | queries),
            ("student", {"task": "embedding", "num_train_epochs": 2} | STUDENT | queries),
            ("alike", {"task": "sentence-similarity", "num_train_epochs": 2} | STUDENT | pairs),
        ):
            config = TRAINING | own | {"output_dir": name}
            Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
            done("fine-tune" if name == "teacher" else "distil", f"{name}.yaml")
    return folder


@pytest.fixture(autouse=True)
def in_the_workplace(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    if "workplace" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("workplace"))
    yield


def recalls(folder: str) -> dict[str, float]:
    """The recalls of a model in percent, by the evaluator of sentence-transformers."""
    rows = rows_of("queries-dev.jsonl")
    corpus = {p: p for row in rows for p in row["passages"]}
    relevant = {str(i): {row["passages"][row["labels"].index(1)]} for i, row in enumerate(rows)}
    evaluator = InformationRetrievalEvaluator(
        {str(i): row["query"] for i, row in enumerate(rows)},
        corpus,
        relevant,
        precision_recall_at_k=[1, 10],
        write_csv=False,
    )
    found = evaluator(SentenceTransformer(folder, device="cpu"))
    return {f"recall_{k}": 100 * found[f"cosine_recall@{k}"] for k in (1, 10)}


@pytest.mark.parametrize("folder", ["teacher", "student"])
def test_recall_is_that_of_sentence_transformers(workplace: Path, folder: str) -> None:
    record = read(f"{folder}/results.json")
    for name, value in recalls(folder).items():
        assert record[name] == pytest.approx(value, abs=1e-6)
    assert record["metrics"] == {"recall_1": "recall@1", "recall_10": "recall@10"}
    assert (record["task"], record["rows"]) == ("embedding", 24)


def test_the_correlation_is_spearmans_of_the_cosines_of_sentence_transformers(
    workplace: Path,
) -> None:
    rows = rows_of("pairs-dev.jsonl")
    model = SentenceTransformer("alike", device="cpu")
    first, second = (model.encode([row[name] for row in rows]) for name in ("text", "text_pair"))
    cosines = np.array([read("alike/analysis/predictions.json")[str(i)] for i in range(20)])
    assert np.allclose(cosines, (first * second).sum(1), atol=2e-6)
    expected = spearmanr(cosines, [row["score"] for row in rows]).statistic
    record = read("alike/results.json")
    assert record["spearman"] == pytest.approx(100 * expected, abs=1e-6)
    assert record["teacher"]["spearman"] > 50
    assert (record["task"], record["rows"]) == ("sentence-similarity", 20)


def test_the_student_is_a_plain_encoder_too(workplace: Path) -> None:
    assert AutoModel.from_pretrained("student").config.num_hidden_layers == 2
    assert SentenceTransformer("student", device="cpu").max_seq_length == 24
    assert read("student/results.json")["objective"]["kd_loss"] == "cosine"


def test_texts_are_encoded_as_sentence_transformers_does(workplace: Path, tmp_path: Path) -> None:
    model = SentenceTransformer("student", device="cpu")
    texts = [row["text"] for row in rows_of("texts.jsonl")]
    lines = done("predict", "--model", "student", "--input", "texts.jsonl").splitlines()
    found = np.array([json.loads(line)["embedding"] for line in lines])
    assert np.allclose(found, model.encode(texts), atol=1e-5)
    one = json.loads(
        done("predict", "--model", "student", "--text", "rhine", "--text_pair", "elbe")
    )
    first, second = model.encode(["rhine", "elbe"])
    assert one["similarity"] == pytest.approx(float(first @ second), abs=1e-5)
    write_rows(str(tmp_path / "both.jsonl"), [{"text": "rhine"}, pair(3), {"text": "elbe"}])
    both = done("predict", "--model", "student", "--input", str(tmp_path / "both.jsonl"))
    fields = [
        sorted(json.loads(line).keys() & {"embedding", "similarity"}) for line in both.splitlines()
    ]
    assert fields == [["embedding"], ["similarity"], ["embedding"]]


@pytest.mark.parametrize(
    ("task", "folder", "data", "metric"),
    [
        ("embedding", "student", "queries-dev.jsonl", "recall_1"),
        ("sentence-similarity", "alike", "pairs-dev.jsonl", "spearman"),
    ],
)
def test_answers_score_the_same_from_a_model_and_from_a_file(
    workplace: Path, tmp_path: Path, task: str, folder: str, data: str, metric: str
) -> None:
    answers, data_file = str(tmp_path / "answers.json"), ("--validation_file", data)
    out = done("evaluate", "--model", folder, *data_file, "--output_file", answers)
    found = json.loads(out.splitlines()[-1])
    again = json.loads(done("evaluate", "--task", task, "--predictions_file", answers, *data_file))
    assert again[metric] == pytest.approx(found[metric], abs=1e-9)
    assert found[metric] == read(f"{folder}/results.json")[metric]
    for wrong, sentence in (
        ('{"0": "x"}', "the answer to"),
        ('{"x": [0]}', "none of the 1 answers"),
    ):
        Path(answers).write_text(wrong)
        assert sentence in refused(
            "evaluate", "--task", task, "--predictions_file", answers, *data_file
        )


def test_a_pushed_model_has_the_files_of_sentence_transformers(workplace: Path) -> None:
    out = done("push-to-hub", "--model", "student", "--repo_id", "user/embedder", "--dry_run")
    for words in (
        *("modules.json", "1_Pooling/config.json", "pipeline_tag: sentence-similarity"),
        *("SentenceTransformer(", "24 queries", "ms per query", "Recall@1".lower()),
        "`w_kd` · (1 - cosine of the vectors of teacher and student) + `beta_corr`",
    ):
        assert words in out
    assert done("report", "alike").strip() == "alike/report.html"
    page = Path("alike/report.html").read_text()
    assert "Judged on 20 pairs" in page and "Spearman" in page


def test_a_model_is_judged_at_the_length_of_its_training(workplace: Path, tmp_path: Path) -> None:
    # The student was judged by queries, but its vectors may be judged by pairs, too.
    similarity = ("--task", "sentence-similarity", "--validation_file", "pairs-dev.jsonl")
    options = ("--model", "student", *similarity)
    by_default = json.loads(done("evaluate", *options).splitlines()[-1])
    named = json.loads(done("evaluate", *options, "--max_length", "24").splitlines()[-1])
    assert by_default["signature"] == named["signature"]
    out = str(tmp_path / "int8")
    done("quantise", *options, "--max_length", "16", "--output_dir", out, "--max_f1_drop", "100")
    assert SentenceTransformer(out, device="cpu").max_seq_length == 24
    assert AutoTokenizer.from_pretrained(out).model_max_length == 24


@pytest.mark.slow
def test_onnx_and_int8_give_vectors(workplace: Path, tmp_path: Path) -> None:
    arguments = ("--model", "student", "--validation_file", "queries-dev.jsonl")
    done("export-onnx", *arguments, "--max_f1_drop", "100", "--output_dir", str(tmp_path))
    models = read(f"{tmp_path}/export.json")["models"]
    assert models["onnx"]["recall_1"] == pytest.approx(models["torch"]["recall_1"], abs=1e-6)
    assert "recall_1" in models["onnx int8"]
    exported = done(
        "predict", "--model", f"{tmp_path}/onnx", "--task", "embedding", "--input", "texts.jsonl"
    )
    vectors = np.array([json.loads(line)["embedding"] for line in exported.splitlines()])
    expected = SentenceTransformer("student", device="cpu").encode(
        [row["text"] for row in rows_of("texts.jsonl")]
    )
    assert np.allclose(vectors, expected, atol=1e-4)


@pytest.mark.slow  # trains in processes of their own
def test_methods_are_compared_and_may_choose_the_loss(workplace: Path, tmp_path: Path) -> None:
    plan = {
        "base": str(workplace / "student.yaml"),
        "task": "embedding",
        "output_dir": str(tmp_path / "out"),
        "seeds": [0],
        "methods": {
            "kd": {"beta_corr": 0, "beta_mi": 0},
            "similarities": {"kd_loss": "similarities"},
        },
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    table = done("compare", str(tmp_path / "plan.yaml"))
    assert "recall@1 - kd [95% interval]" in table and "in percent on 24 queries" in table


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--train_file", "texts.jsonl"), "has texts without labels, but w_task is 1.0"),
        (("--metric_for_best_model", "loss", "--save_strategy", "best"), "must be one of recall_1"),
        (("--validation_file", "pairs-dev.jsonl"), '"query" is None'),
        (("--kd_loss", "l1"), "invalid choice: 'l1' (choose from 'cosine', 'mse', 'similarities')"),
        (
            ("--more_teachers", "teacher"),
            "more_teachers are given, but the task embedding learns from one teacher",
        ),
    ],
)
def test_a_distillation_that_makes_no_sense_is_refused(
    workplace: Path, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    arguments = ("student.yaml", "--w_task", "1", "--output_dir", str(tmp_path / "out"))
    assert sentence in refused("distil", *arguments, *options)


def test_a_training_without_a_teacher_needs_labels(workplace: Path, tmp_path: Path) -> None:
    arguments = ("teacher.yaml", "--output_dir", str(tmp_path / "out"))
    found = refused("fine-tune", *arguments, "--train_file", "texts.jsonl")
    assert "has texts without labels, but a training without a teacher learns from them" in found
    write_rows("wide.jsonl", [pair(1) | {"score": 4.0}, pair(2)])
    found = refused("fine-tune", *arguments, "--train_file", "wide.jsonl")
    assert "has scores from" in found and "a cosine learns those from -1 to 1" in found


def test_pairs_with_scores_train_an_embedder(workplace: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    done(
        *("fine-tune", "teacher.yaml", "--task", "sentence-similarity", "--output_dir", out),
        *("--train_file", "pairs-train.jsonl", "--validation_file", "pairs-dev.jsonl"),
        *("--num_train_epochs", "1"),
    )
    assert torch.isfinite(torch.tensor(read(f"{out}/results.json")["spearman"]))
