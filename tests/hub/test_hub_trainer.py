"""`--push_to_hub` of a trainer: the model alone arrives, at the end and while training goes on."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load
from transformers import (
    BertTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    TrainingArguments,
    ViTImageProcessor,
)

from itrd_nlp import files as files_module
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.tasks.jobs import evaluate as evaluation
from itrd_nlp.training.arguments import FineTuningArguments

REPO = "user/student"
MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}


@pytest.fixture
def arguments(tmp_path: Path) -> Any:
    def arguments(kind: type = ITRDTrainingArguments, **options: Any) -> Any:
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "ann" / "run"),
            "per_device_train_batch_size": 4,
            "max_steps": 2,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "push_to_hub": True,
            "hub_model_id": REPO,
        }
        return kind(**(defaults | options))

    return arguments


@pytest.fixture
def make_trainer(as_default_hub, arguments, teacher, student, make_rows, collate) -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(59))]

    def make_trainer(**options: Any) -> ITRDTrainer:
        return ITRDTrainer(
            model=student,
            teacher=teacher,
            args=arguments(**options),
            train_dataset=make_rows(8),
            data_collator=collate,
            processing_class=BertTokenizerFast(vocab={w: i for i, w in enumerate(words)}),
        )

    return make_trainer


def files(hub: Any, branch: str = "main") -> dict[str, bytes]:
    return hub.repos[REPO].files(branch)


def test_the_student_alone_is_pushed(as_default_hub, make_trainer, student, tmp_path):
    trainer = make_trainer(hub_strategy="end", hub_private_repo=True)
    trainer.train()
    report = trainer.push_to_hub()
    found = files(as_default_hub)
    assert set(found) == MODEL
    assert set(load(found["model.safetensors"])) == set(student.state_dict())
    assert report.changed and report.commit == as_default_hub.repos[REPO].branches["main"].oid
    assert as_default_hub.repos[REPO].private
    for content in found.values():
        assert b"/ann/" not in content and str(tmp_path).encode() not in content
    assert not trainer.push_to_hub().changed


def test_the_card_says_what_is_known_without_an_evaluation(as_default_hub, make_trainer):
    trainer = make_trainer(hub_strategy="end", beta_corr=4.0)
    trainer.train()
    trainer.push_to_hub(license="mit")
    card = ModelCard(files(as_default_hub)["README.md"].decode())
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "question-answering"
    assert not card.data.eval_results
    assert "| `beta_corr` | 4.0 |" in card.text
    assert "| 2 | 4 |" in card.text  # the layer map
    assert "optimizer steps: 2" in card.text


def test_results_of_this_training_are_pushed_and_those_of_another_are_not(
    as_default_hub, make_trainer
):
    trainer = make_trainer(hub_strategy="end")
    trainer.train()
    path = Path(trainer.args.output_dir) / "results.json"
    results = {"exact_match": 48.0, "f1": 62.0, "arguments": {"validation_file": "dev.json"}}
    path.write_text(json.dumps(results | {"steps": 999}))
    trainer.push_to_hub()
    assert set(files(as_default_hub)) == MODEL
    path.write_text(json.dumps(results | {"steps": 2}))
    trainer.push_to_hub()
    assert set(files(as_default_hub)) == MODEL | {"results.json"}
    card = ModelCard(files(as_default_hub)["README.md"].decode())
    assert card.data.eval_results is not None
    assert [result.metric_value for result in card.data.eval_results] == [48.0, 62.0]


def test_the_scores_that_an_earlier_training_left_are_not_pushed(as_default_hub, make_trainer):
    """Not even those of a training of as many steps."""
    trainer = make_trainer(hub_strategy="end")
    path = Path(trainer.args.output_dir) / "results.json"
    path.write_text(json.dumps({"exact_match": 88.0, "f1": 99.0, "steps": 2}))
    trainer.train()
    trainer.push_to_hub()
    assert set(files(as_default_hub)) == MODEL
    assert ModelCard(files(as_default_hub)["README.md"].decode()).data.eval_results is None


def test_a_push_in_private_never_reaches_an_open_repository_that_is_public(
    as_default_hub, make_trainer
):
    trainer = make_trainer(hub_strategy="end")
    with pytest.raises(UserError, match=r"user/student exists and is public, but is to be private"):
        trainer.push_to_hub(private=True)
    assert files(as_default_hub) == {}
    assert trainer.push_to_hub().changed


def test_each_save_pushes_the_student_and_never_a_checkpoint(as_default_hub, make_trainer):
    trainer = make_trainer(
        hub_strategy="every_save", hub_always_push=True, save_strategy="steps", save_steps=1
    )
    trainer.train()
    repo = as_default_hub.repos[REPO]
    titles = [commit.title for commit in repo.commits()]
    assert titles == ["Training in progress, step 2", "Training in progress, step 1"]
    for commit in repo.commits():
        assert set(commit.tree) - {".gitattributes"} == MODEL
    for commit, step in zip(repo.commits(), (2, 1), strict=True):
        checkpoint = Path(trainer.args.output_dir) / f"checkpoint-{step}" / "model.safetensors"
        assert commit.tree["model.safetensors"].content == checkpoint.read_bytes()


def test_a_push_that_fails_in_mid_training_is_a_warning(
    as_default_hub, make_trainer, caplog, sleeps
):
    trainer = make_trainer(save_strategy="steps", save_steps=1, hub_always_push=True)
    as_default_hub.fail("POST .*/commit/", 500, times=2)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.state.global_step == 2
    assert "The model of step 1 is not pushed: 127.0.0.1 has a problem" in caplog.text
    assert len(as_default_hub.repos[REPO].commits()) == 1


@pytest.mark.parametrize("fails", ["push_files", "shutil.copy"])
def test_whatever_fails_in_a_push_in_mid_training_is_a_warning(
    as_default_hub, make_trainer, caplog, monkeypatch, fails
):
    def failing(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    trainer = make_trainer(save_strategy="steps", save_steps=1, hub_always_push=True)
    monkeypatch.setattr(f"itrd_nlp.publish.hub_trainer.{fails}", failing)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.state.global_step == 2
    assert "The model of step 1 is not pushed: [Errno 28] No space left on device." in caplog.text


def test_a_push_at_the_end_that_fails_is_one_sentence_and_the_model_is_saved(
    as_default_hub, make_trainer, sleeps
):
    trainer = make_trainer(hub_strategy="end")
    trainer.train()
    as_default_hub.fail("POST .*/commit/", 403)
    with pytest.raises(UserError, match="does not let you do this"):
        trainer.push_to_hub()
    assert (Path(trainer.args.output_dir) / "model.safetensors").is_file()
    assert trainer.push_to_hub().changed


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_checkpoints_on_the_hub_are_refused_before_anything_is_sent(
    as_default_hub, make_trainer, strategy
):
    with pytest.raises(UserError, match=f"hub_strategy is '{strategy}', but must be every_save or"):
        make_trainer(hub_strategy=strategy)
    assert as_default_hub.requests == []


def test_a_push_without_the_argument_goes_to_the_name_of_the_folder(as_default_hub, make_trainer):
    trainer = make_trainer(push_to_hub=False, hub_model_id=None)
    assert as_default_hub.requests == []
    trainer.push_to_hub(blocking=False, revision="draft").result()
    assert set(as_default_hub.repos["user/run"].files("draft")) == MODEL


def test_a_token_of_the_arguments_is_used_and_not_sent_on(
    as_default_hub, make_trainer, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN")
    trainer = make_trainer(hub_strategy="end", hub_token=as_default_hub.token)
    trainer.push_to_hub()
    for content in files(as_default_hub).values():
        assert as_default_hub.token.encode() not in content


@pytest.mark.parametrize("kind", [FineTuningArguments, TrainingArguments])
def test_a_token_of_the_arguments_is_in_no_file(
    as_default_hub, arguments, teacher, make_rows, collate, monkeypatch, kind
):
    """Not even in the pickled arguments beside each model, whichever arguments they are."""
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(files_module, "_KEPT_OUT", set())
    token = as_default_hub.token = "ordinary-words-of-mine"
    options = {"hub_strategy": "every_save", "save_strategy": "steps", "save_steps": 1}
    if kind is TrainingArguments:
        options |= {"use_cpu": True, "bf16": False}
    trainer = HubTrainer(
        model=teacher,
        args=arguments(kind, hub_token=token, **options),
        train_dataset=make_rows(8),
        data_collator=collate,
    )
    trainer.train()
    trainer.push_to_hub()
    folder = Path(trainer.args.output_dir)
    pickled = [*folder.rglob("training_args.bin")]
    assert {path.parent.name for path in pickled} == {"run", "checkpoint-1", "checkpoint-2"}
    for path in pickled:
        assert torch.load(path, weights_only=False).hub_token is None
    assert trainer.args.hub_token == token
    assert as_default_hub.repos[REPO].commits()
    for path in folder.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path


def test_a_token_that_is_given_to_a_push_is_in_no_file(
    as_default_hub, make_trainer, monkeypatch, tmp_path
):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(files_module, "_KEPT_OUT", set())
    token = as_default_hub.token = "ordinary-words-of-mine"
    trainer = make_trainer(push_to_hub=False)
    trainer.train()
    folder = Path(trainer.args.output_dir)
    known = {"f1": 62.0, "exact_match": 48.0, "steps": 2}
    (folder / "results.json").write_text(json.dumps(known | {"note": f"by {token}"}))
    trainer.processing_class.init_kwargs["note"] = token  # as somebody else's code might
    trainer.push_to_hub(token=token)
    sent = files(as_default_hub)
    assert b"by ***" in sent["results.json"] and b'"***"' in sent["tokenizer_config.json"]
    for name, content in sent.items():
        assert token.encode() not in content, name


def test_a_fine_tuned_teacher_is_pushed_without_the_arguments_of_its_training(
    as_default_hub, arguments, teacher, make_rows, collate
):
    trainer = HubTrainer(
        model=teacher,
        args=arguments(FineTuningArguments, hub_strategy="end"),
        train_dataset=make_rows(8),
        data_collator=collate,
    )
    trainer.train()
    trainer.push_to_hub()
    assert (Path(trainer.args.output_dir) / "training_args.bin").is_file()
    assert set(files(as_default_hub)) == {"config.json", "model.safetensors", "README.md"}


def test_a_model_is_judged_without_a_hub_also_where_the_run_is_pushed(
    student, make_rows, collate, tmp_path, monkeypatch
):
    """The teacher of a run with push_to_hub is evaluated by a trainer of its own, which pushes nothing."""
    made = []

    class Judge(evaluation.BaseTrainer):
        def __init__(self, **kwargs):
            made.append(kwargs["args"])
            super().__init__(**kwargs)

    monkeypatch.setattr(evaluation, "BaseTrainer", Judge)
    monkeypatch.setattr(evaluation, "evaluate_trainer", lambda *_: None)
    monkeypatch.setattr(HfApi, "create_repo", None)
    args = FineTuningArguments(
        str(tmp_path / "out"), push_to_hub=True, hub_model_id="me/it", report_to="none"
    )
    data = SimpleNamespace(trainer_kwargs=lambda: {"data_collator": collate})
    evaluation.judge(None, student, data, args)
    assert [one.push_to_hub for one in made] == [False]
    assert args.push_to_hub


def test_a_model_of_images_brings_what_reads_its_images(as_default_hub, arguments):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    trainer = HubTrainer(
        model=ResNetForImageClassification(config),  # it has stages, and no number of layers
        args=arguments(FineTuningArguments, hub_strategy="end"),
        processing_class=ViTImageProcessor(),
    )
    trainer.push_to_hub()
    found = files(as_default_hub)
    assert set(found) == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "README.md",
    }
