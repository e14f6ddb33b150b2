"""The whole chain for every kind of label with tiny models: teach, distil, evaluate, predict, export, load."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from itrd_nlp.cli.main import subcommands
from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.task import kd_term, loss_units
from itrd_nlp.training.record import RunRecord

WORDS = ["rhine", "flows", "past", "bonn", "and", "basel", "bo", "##nn"]
TASK = ("--task", "classification")
TRAINING = {
    "num_train_epochs": 14,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-3,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "max_length": 32,
}
CITIES = ("bonn", "basel")


def words(i: int) -> list[str]:
    return [WORDS[(i * 5 + i // 6 + j) % 6] for j in range(3 + i % 4)]


def write_several(split: str, rows: range) -> dict[str, Any]:
    """JSON lines: which cities a text names."""
    lines = [
        {"text": " ".join(words(i)), "labels": [w for w in CITIES if w in words(i)]} for i in rows
    ]
    Path(f"several-{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return {f"{'train' if split == 'train' else 'validation'}_file": f"several-{split}.jsonl"}


def write_numbers(split: str, rows: range) -> dict[str, Any]:
    """A table: how many words of a text are cities."""
    with open(f"numbers-{split}.csv", "w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "sentence", "cities"])
        for i in rows:
            table.writerow([i, " ".join(words(i)), sum(w in CITIES for w in words(i)) / 2])
    named = {"text_column": "sentence", "label_columns": ["cities"], "problem_type": "regression"}
    return named | {f"{'train' if split == 'train' else 'validation'}_file": f"numbers-{split}.csv"}


def write_entities(split: str, rows: range) -> dict[str, Any]:
    """CoNLL in IOB1: cities, two in a row are two entities."""
    lines = ["-DOCSTART- -X- O", ""]
    for i in rows:
        before = False
        for word in words(i):
            city = word in CITIES
            lines.append(f"{word} NN {('B-CITY' if before else 'I-CITY') if city else 'O'}")
            before = city
        lines.append("")
    Path(f"entities-{split}.conll").write_text("\n".join(lines))
    name = "train" if split == "train" else "validation"
    return {f"{name}_file": f"entities-{split}.conll", "label_all_tokens": True}


KINDS = {"several": write_several, "numbers": write_numbers, "entities": write_entities}
MAIN = {"several": "micro_f1", "numbers": "spearman", "entities": "entity_f1"}


def run(name: str, *arguments: str, stdin: bytes | None = None) -> str:
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[name].stem}")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(sys, "argv", [f"itrd-nlp {name}", *arguments])
        if stdin is not None:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        module.main()
    return out.buffer.getvalue().decode()


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for part in make_reader(WORDS, 3, initializer_range=0.05, max_position_embeddings=64):
            part.save_pretrained("encoder")
        for kind, make in KINDS.items():
            data = make("train", range(64)) | make("dev", range(64, 88))
            teacher = {"model_name_or_path": "encoder", "output_dir": f"{kind}-teacher"}
            student = {
                "teacher": f"{kind}-teacher",
                "output_dir": f"{kind}-student",
                "num_layers": 2,
                "num_train_epochs": 4,
            }
            for name, own in (("teacher", teacher), ("student", student)):
                Path(f"{kind}-{name}.yaml").write_text(json.dumps(TRAINING | data | own))
            run("fine-tune", f"{kind}-teacher.yaml", *TASK)
            run("distil", f"{kind}-student.yaml", *TASK)
    return folder


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(workplace)
    return str(request.param)


@pytest.fixture
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workplace)
    return workplace


def options(kind: str, *names: str) -> list[str]:
    """Options of the data as the config of the student has them."""
    config = read(f"{kind}-student.yaml")
    given = []
    for name in ("validation_file", "text_column", "label_columns", "problem_type", *names):
        value = config.get(name)
        if value is not None:
            given += [f"--{name}", *(value if isinstance(value, list) else [str(value)])]
    return given


def test_teacher_and_student_learn_and_their_records_have_the_metrics_of_the_kind(kind):
    teacher, student = (read(f"{kind}-{model}/results.json") for model in ("teacher", "student"))
    assert next(iter(teacher["metrics"])) == MAIN[kind]
    assert teacher[MAIN[kind]] > 85  # a word decides
    assert student[MAIN[kind]] > 50
    assert student["teacher"][MAIN[kind]] == teacher[MAIN[kind]]
    card = Path(f"{kind}-student/README.md").read_text()
    assert f"| {student[MAIN[kind]]:.2f} |" in card
    kd = {
        "several": "`w_kd` · T² KL(teacher ‖ student) of each label by itself, their mean +",
        "numbers": "`w_kd` · mean squared difference of the outputs of teacher and student +",
        "entities": "`w_kd` · T² KL(teacher ‖ student) +",
    }
    assert kd[kind] in card
    assert Path(f"{kind}-student/report.html").is_file()


def test_the_head_says_what_it_is_for_and_kd_reads_it(kind):
    from transformers import AutoConfig

    from itrd_nlp.distillation.logit_kd import problem_type_of

    config = AutoConfig.from_pretrained(f"{kind}-student")
    expected = {"several": "multi_label_classification", "numbers": "regression", "entities": None}
    assert config.problem_type == expected[kind]
    record = RunRecord.read(f"{kind}-student")
    assert record is not None and record.problem_type == expected[kind]
    labels = {"several": ["basel", "bonn"], "numbers": ["value"], "entities": ["B-CITY", "O"]}
    assert list(config.id2label.values()) == labels[kind]
    read = problem_type_of(config, None, {})
    assert read == (expected[kind] or "single_label_classification")


def test_evaluate_gives_the_scores_of_the_training_and_of_the_answers(kind, tmp_path):
    record = read(f"{kind}-student/results.json")
    answers = str(tmp_path / "answers.json")
    given = options(kind)
    out = run("evaluate", "--model", f"{kind}-student", *given, "--output_file", answers)
    found = json.loads(out.splitlines()[-1])
    again = json.loads(run("evaluate", *TASK, "--predictions_file", answers, *given))
    for name in record["metrics"]:
        assert found[name] == pytest.approx(record[name], abs=1e-6)
        assert again[name] == pytest.approx(record[name], abs=1e-6)


def test_the_student_answers_in_the_pipeline_of_transformers_as_here(kind):
    texts = [" ".join(words(i)) for i in range(70, 80)] + ["rhine bonn basel past bonn"]
    lines = "\n".join(json.dumps({"text": text}) for text in texts).encode()
    out = run("predict", "--model", f"{kind}-student", "--input", "-", stdin=lines)
    ours = [json.loads(line) for line in out.splitlines()]
    if kind == "entities":
        theirs = pipeline("token-classification", f"{kind}-student", aggregation_strategy="simple")
        for one, other in zip(ours, theirs(texts), strict=True):
            assert [(e["type"], e["start"], e["end"]) for e in one["entities"]] == [
                (e["entity_group"], e["start"], e["end"]) for e in other
            ]
            for entity in one["entities"]:
                assert one["text"][entity["start"] : entity["end"]] == entity["text"]
        assert sum(len(one["entities"]) for one in ours) > 5
        return
    theirs = pipeline("text-classification", f"{kind}-student", top_k=None)
    for one, other in zip(ours, theirs(texts), strict=True):
        if kind == "numbers":
            assert one["label"] == pytest.approx(other[0]["score"], abs=1e-5)
        else:
            held = {found["label"]: found["score"] for found in other if found["score"] >= 0.5}
            assert dict(zip(one["labels"], one["scores"], strict=True)) == pytest.approx(
                held, abs=1e-5
            )


def test_words_of_several_parts_and_tokens_have_the_same_entities(here):
    text, tokens = "rhine and bonn , basel bonn", ["rhine", "and", "bonn", ",", "basel", "bonn"]
    lines = [{"text": text}, {"tokens": tokens}, {"text": text}]
    stdin = "\n".join(map(json.dumps, lines)).encode()
    arguments = ("predict", "--model", "entities-teacher", "--input", "-", "--batch_size", "8")
    one, two, three = (json.loads(line) for line in run(*arguments, stdin=stdin).splitlines())
    assert one["tokens"] == tokens == two["tokens"]
    assert one["entities"] == three["entities"]
    assert [(e["type"], e["text"]) for e in two["entities"]] == [
        ("CITY", "bonn"),
        ("CITY", "basel"),
        ("CITY", "bonn"),
    ]
    assert [e | {"score": 0} for e in one["entities"]] == [
        e | {"score": 0} for e in two["entities"]
    ]


def test_the_rows_of_a_comparison_have_the_metric_as_their_mean(kind):
    from itrd_nlp.tasks.classification.arguments import TextArguments
    from itrd_nlp.tasks.classification.task import Classification

    names = set(TextArguments.__dataclass_fields__)
    config = {k: v for k, v in read(f"{kind}-student.yaml").items() if k in names}
    answers = read(f"{kind}-student/analysis/predictions.json")
    found = Classification.scores(TextArguments(**config), answers)
    assert list(found) == [MAIN[kind]]
    score = read(f"{kind}-student/results.json")[MAIN[kind]]
    assert 100 * found[MAIN[kind]].mean() == pytest.approx(score, abs=1e-6)


@pytest.mark.slow
def test_the_exported_model_has_the_scores_of_torch(kind, tmp_path):
    given = options(kind)
    run("export-onnx", "--model", f"{kind}-student", *given, "--output_dir", str(tmp_path),
        "--int8", "false")  # fmt: skip
    models = read(f"{tmp_path}/export.json")["models"]
    assert models["onnx"][MAIN[kind]] == pytest.approx(models["torch"][MAIN[kind]], abs=0.5)
    assert models["onnx"]["same_answers"] > 90
    text = ("--text", "bonn and basel")
    found = json.loads(run("predict", "--model", f"{tmp_path}/onnx", *text))
    same = json.loads(run("predict", "--model", f"{kind}-student", *text))
    key = {"several": "labels", "numbers": "label", "entities": "labels"}[kind]
    assert found[key] == (pytest.approx(same[key], abs=1e-4) if kind == "numbers" else same[key])


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification", None])
def test_the_card_names_the_loss_of_the_labels_whatever_metric_is_asked_for(problem_type):
    """A record of an earlier version has no problem type, but metrics that most often tell."""
    metric = {"regression": "spearman", "multi_label_classification": "micro_f1", None: "f1"}
    old = RunRecord(metrics={metric[problem_type]: "a heading"})
    asked = RunRecord(metrics={"accuracy": "accuracy"}, problem_type=problem_type)
    assert (kd_term(asked), loss_units(asked)) == (kd_term(old), loss_units(old))
    assert ("each label by itself" in kd_term(asked)) == (metric[problem_type] == "micro_f1")
    assert ("squared difference" in kd_term(asked)) == (problem_type == "regression")


def test_data_of_another_kind_than_the_model_are_refused(here):
    for model, data, sentence in (
        ("several", "numbers", "has the problem_type multi_label_classification, but"),
        ("numbers", "several", "has the problem_type regression, but"),
    ):
        with pytest.raises(UserError, match=sentence):
            run("evaluate", "--model", f"{model}-student", *options(data))


def test_metrics_that_the_data_cannot_have_are_refused_before_the_training(here, tmp_path):
    for arguments, sentence in (
        (("--metrics", "matthews"), "metrics name 'matthews', but those of several-dev.jsonl are"),
        (("--metrics", "micro_f1", "micro_f1"), "must not have a name twice"),
        (("--metrics", "positive_f1"), "positive_label and the metric positive_f1 need each other"),
    ):
        with pytest.raises(UserError, match=sentence):
            out = ("--output_dir", str(tmp_path / "out"))
            run("fine-tune", "several-teacher.yaml", *TASK, *arguments, *out)
    assert not (tmp_path / "out").exists()
