"""The best checkpoint is what is published, so its seal is checked before it is read, in both trainers."""

from __future__ import annotations

import shutil
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.checkpoints import checkpoints, damage
from itrd_nlp.training.trainer import BaseTrainer


@pytest.fixture(params=["fine-tuning", "distillation"])
def make_trainer(request, tmp_path, teacher, make_bert, make_rows, collate):
    """A training whose best checkpoint is the first: greater losses are better here."""

    def make_trainer(*callbacks, name="run"):
        distils = request.param == "distillation"
        group = ITRDTrainingArguments if distils else FineTuningArguments
        args = group(
            output_dir=str(tmp_path / name),
            per_device_train_batch_size=4,
            max_steps=4,
            learning_rate=1e-2,
            save_strategy="steps",
            eval_strategy="steps",
            save_steps=1,
            eval_steps=1,
            load_best_model_at_end=True,
            metric_for_best_model="loss",
            greater_is_better=True,
            report_to="none",
            disable_tqdm=True,
        )
        return (ITRDTrainer if distils else BaseTrainer)(
            model=make_bert(2, seed=1),
            args=args,
            train_dataset=datasets.Dataset.from_list(make_rows(16)),
            eval_dataset=datasets.Dataset.from_list(make_rows(8, seed=3)),
            data_collator=collate,
            callbacks=list(callbacks),
            **({"teacher": teacher} if distils else {}),
        )

    return make_trainer


class At(TrainerCallback):
    """Does something after the checkpoint of a step was saved."""

    def __init__(self, step, do):
        self.step, self.do = step, do

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.do(Path(args.output_dir) / "checkpoint-1")


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def interrupt(folder: Path) -> None:
    raise KeyboardInterrupt


DAMAGES = [
    (flip, "model.safetensors does not have the contents it was written with"),
    (truncate, "model.safetensors has .* bytes, not"),
    (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    (shutil.rmtree, "it is missing"),
]


@pytest.mark.parametrize(("spoil", "reason"), DAMAGES)
def test_a_damaged_best_checkpoint_is_not_published(make_trainer, tmp_path, spoil, reason) -> None:
    with pytest.raises(UserError, match=f"best checkpoint .*checkpoint-1 cannot be used: {reason}"):
        make_trainer(At(4, spoil)).train()
    others = [path for path in checkpoints(tmp_path / "run") if path.name != "checkpoint-1"]
    assert len(others) == 3
    assert [damage(path) for path in others] == [None] * 3


@pytest.mark.parametrize(("spoil", "reason"), DAMAGES)
def test_a_run_whose_best_checkpoint_is_damaged_is_refused_before_it_goes_on(
    make_trainer, tmp_path, spoil, reason
) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_trainer(At(2, interrupt)).train()
    spoil(tmp_path / "run" / "checkpoint-1")
    trainer = make_trainer()
    with pytest.raises(UserError, match=f"best checkpoint .*checkpoint-1 cannot be used: {reason}"):
        trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 0
    assert damage(tmp_path / "run" / "checkpoint-2") is None


def test_a_run_that_moved_still_ends_with_its_best_checkpoint(make_trainer, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_trainer(At(2, interrupt)).train()
    (tmp_path / "run").rename(tmp_path / "moved")
    trainer = make_trainer(name="moved")
    trainer.train(resume_from_checkpoint=True)
    best = tmp_path / "moved" / "checkpoint-1"
    assert Path(trainer.state.best_model_checkpoint) == best
    expected = load_file(best / "model.safetensors")
    for name, value in trainer.learner.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("limit", [None, 1])
def test_checkpoints_that_moved_away_from_the_run_serve_a_new_folder(
    make_trainer, tmp_path, limit
) -> None:
    """The checkpoints are kept elsewhere, and the run goes on in a folder of its own."""
    with pytest.raises(KeyboardInterrupt):
        make_trainer(At(2, interrupt)).train()
    (tmp_path / "run").rename(tmp_path / "kept")
    trainer = make_trainer(name="new")
    trainer.args.save_total_limit = limit
    trainer.train(resume_from_checkpoint=str(tmp_path / "kept" / "checkpoint-2"))
    best = tmp_path / "kept" / "checkpoint-1"
    assert Path(trainer.state.best_model_checkpoint) == best
    assert checkpoints(tmp_path / "new") == [] or damage(checkpoints(tmp_path / "new")[0]) is None
    assert damage(best) is None and damage(tmp_path / "kept" / "checkpoint-2") is None
    expected = load_file(best / "model.safetensors")
    for name, value in trainer.learner.state_dict().items():
        assert torch.equal(value, expected[name]), name
