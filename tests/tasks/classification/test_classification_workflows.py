"""Teacher and student of both kinds, end to end, with tiny models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.jobs.arguments import StudentArguments, TeacherArguments
from itrd_nlp.training.arguments import FineTuningArguments

sys.path.insert(0, str(Path(__file__).parents[1]))  # test folders are no packages

from workflows import distil_classifier, fine_tune_classifier

WORDS = ["rhine", "flows", "past", "bonn", "and", "basel"]
SETTINGS = {
    "num_train_epochs": 25,
    "per_device_train_batch_size": 8,
    "learning_rate": 2e-3,
    "train_sampling_strategy": "group_by_length",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def text_row(i):
    words = [WORDS[(i + j) % 6] for j in range(3 + i % 5)]
    return {"text": " ".join(words), "label": "city" if "bonn" in words else "none"}


def token_row(i):
    words = [WORDS[(i + j) % 6] for j in range(3 + i % 5)]
    labels = ["CITY" if word in ("bonn", "basel") else "O" for word in words]
    return {"tokens": words, "labels": [None, *labels[1:]]}


@pytest.fixture
def workplace(tmp_path, monkeypatch, make_reader):
    monkeypatch.chdir(tmp_path)
    model, tokenizer = make_reader(WORDS, 4, initializer_range=0.05)
    model.save_pretrained("encoder")
    tokenizer.save_pretrained("encoder")
    for name, make in (("texts", text_row), ("tokens", token_row)):
        for split, count in (("train", 48), ("dev", 20)):
            rows = [json.dumps(make(i)) for i in range(count)]
            (tmp_path / f"{name}-{split}.jsonl").write_text("\n".join(rows))
    return tmp_path


def texts(name):
    return TextArguments(f"{name}-train.jsonl", f"{name}-dev.jsonl", max_length=32)


def teacher_of(name):
    args = FineTuningArguments(output_dir=f"{name}-teacher", **SETTINGS)
    return fine_tune_classifier(TeacherArguments("encoder"), LoadingArguments(), texts(name), args)


@pytest.mark.parametrize(
    ("name", "head", "labels"),
    [
        ("texts", AutoModelForSequenceClassification, {0: "city", 1: "none"}),
        ("tokens", AutoModelForTokenClassification, {0: "CITY", 1: "O"}),
    ],
)
def test_a_teacher_learns_its_labels_and_teaches_them(workplace, name, head, labels):
    taught = teacher_of(name)
    assert taught["f1"] > 90  # a word decides, so a model that learns anything knows it
    assert head.from_pretrained(f"{name}-teacher").config.id2label == labels

    args = ITRDTrainingArguments(
        output_dir="student", logging_steps=1, **SETTINGS, metric_for_best_model="eval_f1"
    )
    found = distil_classifier(
        StudentArguments(f"{name}-teacher", num_layers=2), LoadingArguments(), texts(name), args
    )
    assert found["teacher"]["f1"] == pytest.approx(taught["f1"])
    assert found["f1"] > 80
    assert (found["layers"], found["teacher"]["layers"]) == (2, 4)
    assert found["layer_pairs"] == ["1:2", "2:4"]
    assert json.loads((workplace / "student" / "results.json").read_text()) == json.loads(
        json.dumps(found)
    )
    student = head.from_pretrained("student")
    assert student.config.num_hidden_layers == 2
    assert student.config.id2label == labels
    card = (workplace / "student" / "README.md").read_text()
    task = "text-classification" if name == "texts" else "token-classification"
    assert f"pipeline_tag: {task}" in card
    assert f"{found['accuracy']:.2f}" in card
    assert "48 rows of" in card
    assert "question" not in card.partition("## Command")[0].lower()


def test_teachers_must_have_the_same_labels(workplace):
    teacher_of("texts")
    second = AutoModelForSequenceClassification.from_pretrained("texts-teacher")
    second.config.id2label = {0: "none", 1: "city"}
    second.save_pretrained("second")
    AutoTokenizer.from_pretrained("texts-teacher").save_pretrained("second")
    models = StudentArguments("texts-teacher", more_teachers=["second"], num_layers=2)
    args = ITRDTrainingArguments(output_dir="student", **(SETTINGS | {"num_train_epochs": 1}))
    with pytest.raises(UserError, match="teacher second has the labels"):
        distil_classifier(models, LoadingArguments(), texts("texts"), args)
    second.config.id2label = {0: "city", 1: "none"}
    second.save_pretrained("second")
    found = distil_classifier(models, LoadingArguments(), texts("texts"), args)
    assert [other["name"] for other in found["more_teachers"]] == ["second"]


def test_a_finished_run_is_shown_once_and_not_made_again(workplace, capsys, monkeypatch):
    first = teacher_of("texts")
    before = (workplace / "texts-teacher" / "model.safetensors").stat().st_mtime_ns
    assert teacher_of("texts") == json.loads(json.dumps(first))
    assert (workplace / "texts-teacher" / "model.safetensors").stat().st_mtime_ns == before
    assert "Finished already" in capsys.readouterr().out
    monkeypatch.setattr(FineTuningArguments, "process_index", 1)  # of several
    assert teacher_of("texts") == json.loads(json.dumps(first))
    assert capsys.readouterr().out == ""


def test_a_model_without_a_trained_head_is_no_teacher(workplace):
    args = ITRDTrainingArguments(output_dir="student", **SETTINGS)
    with pytest.raises(
        UserError, match=r"no fine-tuned model for SequenceClassification.*fine-tune"
    ):
        distil_classifier(StudentArguments("encoder"), LoadingArguments(), texts("texts"), args)
    assert not (workplace / "student" / "results.json").exists()


def test_labels_that_the_teacher_does_not_know_are_refused(workplace):
    teacher_of("texts")
    rows = [json.dumps({"text": "rhine", "label": label}) for label in ("city", "river")]
    (workplace / "texts-train.jsonl").write_text("\n".join(rows))
    args = ITRDTrainingArguments(output_dir="student", **SETTINGS)
    with pytest.raises(UserError, match="label 'river' is in the data and not known to the model"):
        distil_classifier(
            StudentArguments("texts-teacher"), LoadingArguments(), texts("texts"), args
        )


def test_one_label_alone_and_two_kinds_of_files_are_refused(workplace):
    args = FineTuningArguments(output_dir="teacher", **SETTINGS)
    mixed = TextArguments("texts-train.jsonl", "tokens-dev.jsonl")
    with pytest.raises(UserError, match="are of different kinds"):
        fine_tune_classifier(TeacherArguments("encoder"), LoadingArguments(), mixed, args)
    (workplace / "texts-train.jsonl").write_text(json.dumps({"text": "rhine", "label": "x"}))
    with pytest.raises(UserError, match="has the label 'x' alone"):
        fine_tune_classifier(TeacherArguments("encoder"), LoadingArguments(), texts("texts"), args)
