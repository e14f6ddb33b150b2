"""Checkpoints with names of old, such as those of bert-base-uncased: a run reads what it has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import safetensors.torch
import torch
from transformers import BertForQuestionAnswering

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.training.arguments import FineTuningArguments


@pytest.fixture
def old_checkpoint(make_bert: Any, tmp_path: Path) -> Path:
    """A BERT whose norms have the names gamma and beta, with values that are not those of a new model."""
    model = make_bert(2, seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name:
                parameter.add_(torch.randn_like(parameter))
    folder = tmp_path / "old"
    model.save_pretrained(folder)
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = safetensors.torch.load_file(folder / "model.safetensors")
    renamed = {}
    for name, value in state.items():
        for new, old in names.items():
            name = name.replace(new, old)
        renamed[name] = value
    assert any("gamma" in name for name in renamed)
    safetensors.torch.save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "max_steps": 4,
    "save_steps": 2,
    "report_to": "none",
    "disable_tqdm": True,
    "learning_rate": 1e-3,
}


@pytest.fixture
def make(old_checkpoint: Path, teacher: Any, make_rows: Any, collate: Any, tmp_path: Path) -> Any:
    """A trainer of the student or of the teacher, whose model has just been loaded."""

    def make(role: str, folder: str, **changes: Any) -> Any:
        values = COMMON | {"output_dir": str(tmp_path / folder)} | changes
        rows = datasets.Dataset.from_list(make_rows(16))
        data = {"train_dataset": rows, "eval_dataset": rows, "data_collator": collate}
        model = BertForQuestionAnswering.from_pretrained(old_checkpoint)
        if role == "teacher":
            return HubTrainer(model=model, args=FineTuningArguments(**values), **data)
        return ITRDTrainer(model, teacher, ITRDTrainingArguments(**values), **data)

    return make


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.learner.state_dict().items()}


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_resumed_run_ends_as_an_undisturbed_one(make: Any, role: str, tmp_path: Path) -> None:
    undisturbed = make(role, "undisturbed")
    undisturbed.train()
    resumed = make(role, "undisturbed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "undisturbed" / "checkpoint-2"))
    expected, found = weights(undisturbed), weights(resumed)
    different = [name for name in expected if not torch.equal(expected[name], found[name])]
    assert different == []


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_the_best_model_is_that_of_its_checkpoint(make: Any, role: str, tmp_path: Path) -> None:
    best = {
        "load_best_model_at_end": True,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": True,  # so that the first one is the best
        "learning_rate": 1e-2,
    }
    trainer = make(role, "best", **best)
    trainer.train()
    chosen = Path(trainer.state.best_model_checkpoint)
    saved = BertForQuestionAnswering.from_pretrained(chosen).state_dict()
    found = weights(trainer)
    assert [name for name in saved if not torch.equal(saved[name], found[name])] == []


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_files_have_the_names_of_the_model(make: Any, role: str, tmp_path: Path) -> None:
    trainer = make(role, "named", max_steps=2)
    trainer.train()
    trainer.save_model(str(tmp_path / "published"))
    for folder in (tmp_path / "named" / "checkpoint-2", tmp_path / "published"):
        names = safetensors.torch.load_file(folder / "model.safetensors").keys()
        assert names == trainer.learner.state_dict().keys()
    assert "save_pretrained" not in vars(trainer.learner)
