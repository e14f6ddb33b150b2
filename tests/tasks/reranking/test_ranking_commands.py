"""Every job on queries with passages, by the commands as a user gives them, with tiny models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from itrd_nlp.tasks.reranking.arguments import RankingArguments
from itrd_nlp.tasks.reranking.task import Reranking

sys.path.insert(0, str(Path(__file__).parents[1]))  # test folders are no packages

from commands import done, read, refused, write_rows

WORDS = ["rhine", "elbe", "oder", "spree", "flows", "past", "bonn", "and", "basel", "where"]
RIVERS = WORDS[:4]
TASK = ("--task", "reranking")
TRAINING = {
    "num_train_epochs": 30,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-3,
    "train_sampling_strategy": "group_by_length",
    "save_strategy": "no",
    "logging_steps": 10,
    "report_to": "none",
    "disable_tqdm": True,
    "max_length": 24,
}


def row(i: int) -> dict[str, Any]:
    """The passage that names the river of the query is relevant. Lists are of 2 to 4 passages."""
    count = 2 + i % 3
    river = RIVERS[i % 4]
    others = [RIVERS[(i + 1 + j) % 4] for j in range(count - 1)]
    names = [*others[: i % count], river, *others[i % count :]]
    return {
        "query": f"where flows {river}",
        "passages": [
            f"{name} flows past {WORDS[(i + j) % len(WORDS)]}" for j, name in enumerate(names)
        ],
        "labels": [int(name == river) for name in names],
        "source": f"article {i % 5}",
    }


def logits(folder: str, pairs: list[tuple[str, str]]) -> list[float]:
    """The scores of pairs by transformers alone, one after the other."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [
            model(**tokenizer(*pair, return_tensors="pt", truncation=True)).logits.item()
            for pair in pairs
        ]


def metrics_by_hand(folder: str) -> dict[str, float]:
    """Both metrics in percent, written out."""
    gains, ranks = [], []
    for one in map(row, range(48, 72)):
        found = logits(folder, [(one["query"], passage) for passage in one["passages"]])
        rank = 1 + sum(score > found[one["labels"].index(1)] for score in found)
        gains.append(1 / np.log2(1 + rank))
        ranks.append(1 / rank)
    return {"ndcg_10": 100 * float(np.mean(gains)), "mrr_10": 100 * float(np.mean(ranks))}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    """A folder with data, and a teacher and a student made by the commands."""
    folder = tmp_path_factory.mktemp("rankers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for part in make_reader(WORDS, 4, initializer_range=0.05, max_position_embeddings=64):
            part.save_pretrained("encoder")
        write_rows("train.jsonl", [row(i) for i in range(48)])
        write_rows("dev.jsonl", [row(i) for i in range(48, 72)])
        files = {"task": "reranking", "train_file": "train.jsonl", "validation_file": "dev.jsonl"}
        teacher = {"model_name_or_path": "encoder", "output_dir": "teacher"}
        student = {"teacher": "teacher", "num_layers": 2, "output_dir": "student"}
        Path("teacher.yaml").write_text(yaml.safe_dump(TRAINING | files | teacher))
        Path("student.yaml").write_text(
            yaml.safe_dump(TRAINING | files | student | {"num_train_epochs": 4})
        )
        done("fine-tune", "teacher.yaml")
        done("distil", "student.yaml")
    return folder


@pytest.fixture(autouse=True)
def in_the_workplace(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    if "workplace" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("workplace"))
    yield


def test_a_teacher_is_fine_tuned_and_teaches_a_student(workplace: Path) -> None:
    for folder in ("teacher", "student"):
        record = read(f"{folder}/results.json")
        for name, value in metrics_by_hand(folder).items():
            assert record[name] == pytest.approx(value, abs=1e-6)
        assert record["metrics"] == {"ndcg_10": "nDCG@10", "mrr_10": "MRR@10"}
        assert (record["task"], record["rows"]) == ("reranking", 24)
    student = read("student/results.json")
    assert student["teacher"]["ndcg_10"] == read("teacher/results.json")["ndcg_10"]
    assert read("teacher/results.json")["ndcg_10"] > 80  # an order that is drawn has 72
    names = ("kd_loss", "label_loss", "teacher_scores", "beta_corr")
    assert [student["objective"][name] for name in names] == ["listwise", "listwise", "model", 2.0]


def test_the_student_gives_the_same_scores_in_sentence_transformers(workplace: Path) -> None:
    one = row(50)
    pairs = [(one["query"], passage) for passage in one["passages"]]
    model = CrossEncoder("student", device="cpu")
    assert (model.num_labels, model.max_length) == (1, 24)
    given = [*("--query", one["query"]), *("--passages", *one["passages"])]
    answer = json.loads(done("predict", "--model", "student", *given))
    expected = model.rank(one["query"], one["passages"], return_documents=True)
    assert [result["index"] for result in answer["results"]] == [e["corpus_id"] for e in expected]
    assert [result["passage"] for result in answer["results"]] == [e["text"] for e in expected]
    scores = [result["score"] for result in answer["results"]]
    assert scores == pytest.approx([float(e["score"]) for e in expected], abs=1e-6)
    by_hand = torch.tensor(logits("student", pairs)).sigmoid().tolist()
    assert model.predict(pairs).tolist() == pytest.approx(by_hand, abs=1e-6)


def test_scores_are_logits_where_the_configuration_says_so(workplace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "identity"
    shutil.copytree("student", folder)
    config = read(f"{folder}/config.json")
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    (folder / "config.json").write_text(json.dumps(config))
    answer = json.loads(
        done("predict", "--model", str(folder), *TASK, "--query", "where", "--passages", "elbe")
    )
    expected = CrossEncoder(str(folder), device="cpu").predict([("where", "elbe")])
    assert answer["results"][0]["score"] == pytest.approx(float(expected[0]), abs=1e-6)


def test_answers_score_the_same_from_a_model_and_from_a_file(
    workplace: Path, tmp_path: Path
) -> None:
    answers = str(tmp_path / "answers.json")
    data = ("--validation_file", "dev.jsonl")
    out = done("evaluate", "--model", "student", *data, "--output_file", answers)
    found = json.loads(out.splitlines()[-1])
    again = json.loads(done("evaluate", *TASK, "--predictions_file", answers, *data))
    for name in ("ndcg_10", "mrr_10"):
        assert again[name] == found[name] == read("student/results.json")[name]
    Path(answers).write_text('{"0": [0, 0]}')
    sentence = refused("evaluate", *TASK, "--predictions_file", answers, *data)
    assert "query 0 must be a list of numbers of its 2 passages" in sentence
    Path(answers).write_text('{"x": [0]}')
    sentence = refused("evaluate", *TASK, "--predictions_file", answers, *data)
    assert "none of the 1 answers has the number of one of the 24 queries" in sentence


def test_passages_are_sorted_from_a_file_and_a_pipe(workplace: Path) -> None:
    lines = done("predict", "--model", "teacher", "--input", "dev.jsonl").splitlines()
    found = [[result["index"] for result in json.loads(line)["results"]] for line in lines]
    assert found == list(read("teacher/analysis/predictions.json").values())
    piped = done(
        *("predict", "--model", "teacher", "--input", "-", "--top_k", "1"),
        stdin=Path("dev.jsonl").read_bytes(),
    )
    best = [[result["index"] for result in json.loads(x)["results"]] for x in piped.splitlines()]
    assert best == [order[:1] for order in found]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--query", "where"), "passages is not set, but --query needs at least one passage"),
        (("--passages", "elbe"), "passages is set, but belongs to --query"),
        ((), "give either --query with --passages, or --input"),
        (("--query", " ", "--passages", "elbe"), "\"query\" is ' ', but must be"),
        (("--query", "where", "--passages", ""), "number 0 (from 0 on)"),
        (("--query", "a", "--passages", "b", "--top_k", "0"), "top_k is 0, but must be"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(
    workplace: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused("predict", "--model", "student", *arguments)


def test_a_model_of_several_labels_is_refused(workplace: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(
        "student", num_labels=2, ignore_mismatched_sizes=True
    )
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained("student").save_pretrained(tmp_path)
    sentence = refused(
        "evaluate", "--model", str(tmp_path), *TASK, "--validation_file", "dev.jsonl"
    )
    assert "has 2 labels, but a reranker has one" in sentence


def test_report_and_card_speak_of_queries(workplace: Path) -> None:
    assert done("report", "student").strip() == "student/report.html"
    page = Path("student/report.html").read_text()
    card = done("push-to-hub", "--model", "student", "--repo_id", "user/ranker", "--dry_run")
    for words in ("Judged on 24 queries", "by number of words of the query", "ms/query", "nDCG@10"):
        assert words in page
    for words in (
        *("pipeline_tag: text-ranking", "24 queries", "ms per query", "CrossEncoder"),
        *("`w_kd` · T² KL(teacher ‖ student) over the passages of a query", "Nothing was pushed."),
    ):
        assert words in card
    for strange in ("question", "F1", "accuracy", "SQuAD"):
        assert strange not in card.split("## Command")[0]


def test_the_card_names_the_loss_and_the_scores_of_the_run(workplace: Path, tmp_path: Path) -> None:
    shutil.copytree("student", tmp_path / "student")
    record = read("student/results.json")
    record["objective"] |= {"kd_loss": "margin_mse", "teacher_scores": "file"}
    (tmp_path / "student" / "results.json").write_text(json.dumps(record))
    card = done(
        "push-to-hub", "--model", str(tmp_path / "student"), "--repo_id", "u/r", "--dry_run"
    )
    assert "`w_kd` · MarginMSE(scores of the training file, student) + `beta_corr`" in card


def test_a_model_is_judged_at_any_length_and_its_quantised_form_keeps_that_of_the_training(
    workplace: Path, tmp_path: Path
) -> None:
    trained = read("student/results.json")
    data = ("--model", "student", "--validation_file", "dev.jsonl")
    for given, length in (((), 24), (("--max-length=16",), 16)):
        found = json.loads(done("evaluate", *data, *given).splitlines()[-1])
        assert (found["signature"] == trained["signature"]) == (length == 24)
        out = tmp_path / "-".join(("int8", *given))
        done("quantise", *data, *given, "--output_dir", str(out), "--max_f1_drop", "100")
        record = read(f"{out}/results.json")
        assert record["arguments"]["max_length"] == 24
        assert record["signature"] == found["signature"]
        # The tokenizer is that of the student, however long the texts of the examples may be.
        assert AutoTokenizer.from_pretrained(out).model_max_length == 24
        assert CrossEncoder("student", device="cpu").max_length == 24


@pytest.mark.slow
def test_onnx_and_int8_are_judged_by_ndcg(workplace: Path, tmp_path: Path) -> None:
    arguments = ("--model", "teacher", "--validation_file", "dev.jsonl", "--max_f1_drop", "100")
    out = done("export-onnx", *arguments, "--output_dir", str(tmp_path))
    assert "24 queries" in out and "queries/s" in out and "ms/query" in out
    models = read(f"{tmp_path}/export.json")["models"]
    assert models["onnx"]["ndcg_10"] == pytest.approx(models["torch"]["ndcg_10"], abs=1e-6)
    assert "ndcg_10" in models["onnx int8"]
    assert read(f"{tmp_path}/export.json")["signature"] == read("teacher/results.json")["signature"]
    assert AutoTokenizer.from_pretrained(tmp_path / "onnx").model_max_length == 24
    exported = done("predict", "--model", f"{tmp_path}/onnx", *TASK, "--input", "dev.jsonl")
    orders = [[r["index"] for r in json.loads(x)["results"]] for x in exported.splitlines()]
    assert orders == list(read("teacher/analysis/predictions.json").values())


@pytest.mark.slow  # trains in processes of their own
def test_methods_are_compared_by_ndcg_and_may_choose_the_loss(
    workplace: Path, tmp_path: Path
) -> None:
    plan = {
        "base": str(workplace / "student.yaml"),
        "task": "reranking",
        "output_dir": str(tmp_path / "out"),
        "seeds": [0],
        "methods": {
            "kd": {"beta_corr": 0, "beta_mi": 0},
            "margins": {"kd_loss": "margin_mse", "label_loss": "pointwise"},
        },
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    table = done("compare", str(tmp_path / "plan.yaml"))
    assert "nDCG@10 - kd [95% interval]" in table
    assert "nDCG@10 and MRR@10 in percent on 24 queries" in table
    cells = tmp_path / "out" / "cells" / "student"
    records = [read(f"{cells}/{method}/seed0/results.json") for method in ("kd", "margins")]
    assert records[1]["objective"]["kd_loss"] == "margin_mse"
    assert records[0]["weights"] != records[1]["weights"]


def test_queries_of_one_source_have_one_number(workplace: Path) -> None:
    args = RankingArguments(validation_file="dev.jsonl")
    assert np.array_equal(Reranking.sources(args), [i % 5 for i in range(24)])  # type: ignore[arg-type]
    write_rows(
        "alone.jsonl", [{k: v for k, v in row(i).items() if k != "source"} for i in range(3)]
    )
    assert Reranking.sources(RankingArguments(validation_file="alone.jsonl")) is None
