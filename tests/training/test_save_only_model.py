"""`save_only_model`: nobody goes on from such a checkpoint by mistake, and a run that is told to stop loses nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import TrainerCallback

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import TrainingInterrupted, UserError
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.checkpoints import checkpoints
from itrd_nlp.training.trainer import BaseTrainer

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from interruptions import Killed, kill, send_sigterm, terminate


@pytest.fixture(params=["fine-tuning", "distillation"])
def make_trainer(request, tmp_path, teacher, make_bert, make_rows, collate):
    def make_trainer(*callbacks: TrainerCallback, folder: str = "run", **kwargs: Any) -> Any:
        distils = request.param == "distillation"
        defaults = {
            "output_dir": str(tmp_path / folder),
            "per_device_train_batch_size": 4,
            "max_steps": 6,
            "learning_rate": 1e-2,
            "save_steps": 2,
            "save_only_model": True,
            "report_to": "none",
            "disable_tqdm": True,
        }
        group = ITRDTrainingArguments if distils else FineTuningArguments
        return (ITRDTrainer if distils else BaseTrainer)(
            model=make_bert(2, seed=1, hidden_dropout_prob=0.1),
            args=group(**(defaults | kwargs)),
            train_dataset=datasets.Dataset.from_list(make_rows(24)),
            data_collator=collate,
            callbacks=list(callbacks),
            **({"teacher": teacher} if distils else {}),
        )

    return make_trainer


def assert_same_weights(ours: Any, expected: Any) -> None:
    for name, value in expected.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value), name


def test_no_run_goes_on_from_the_model_alone(make_trainer) -> None:
    """It would begin its schedule and its optimizer anew, in the middle of the training."""
    with pytest.raises(Killed):
        make_trainer(kill(5)).train()
    alone = r"holds the model alone \(save_only_model\), so no run can go on from it"
    with pytest.raises(UserError, match=f"no checkpoint that is whole .*checkpoint-4: it {alone}"):
        make_trainer().train(resume_from_checkpoint=True)
    named = Path(make_trainer().args.output_dir) / "checkpoint-4"
    with pytest.raises(UserError, match=f"checkpoint-4 {alone}"):
        make_trainer().train(resume_from_checkpoint=str(named))


@pytest.mark.parametrize("step", [3, 4, 6])
def test_the_checkpoint_of_a_signal_is_whole(make_trainer, step) -> None:
    """Step 4 has a checkpoint of its own, and step 6 is the last."""
    undisturbed = make_trainer(folder="undisturbed")
    undisturbed.train()
    stopped = make_trainer(terminate(step))
    with pytest.raises(TrainingInterrupted) as stop:
        stopped.train()
    assert Path(stop.value.checkpoint).name == f"checkpoint-{step}"
    assert stopped.args.save_only_model is True
    resumed = make_trainer()
    resumed.train(resume_from_checkpoint=stop.value.resume.split()[-1])
    assert resumed._initial_global_step == step
    assert_same_weights(resumed, undisturbed)


def test_a_signal_after_the_model_of_the_last_step_was_saved_saves_the_rest(make_trainer) -> None:
    class AfterSaving(TrainerCallback):
        def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step == 6:
                send_sigterm()

    with pytest.raises(TrainingInterrupted) as stop:
        make_trainer(AfterSaving()).train()
    assert (Path(stop.value.checkpoint) / "optimizer.pt").is_file()
    resumed = make_trainer()
    resumed.train(resume_from_checkpoint=True)
    assert resumed._initial_global_step == resumed.state.global_step == 6


def test_newer_checkpoints_with_the_model_alone_are_passed_over(make_trainer, caplog) -> None:
    with pytest.raises(TrainingInterrupted):
        make_trainer(terminate(3)).train()
    with pytest.raises(Killed):
        make_trainer(kill(6)).train(resume_from_checkpoint=True)
    resumed = make_trainer()
    folder = Path(resumed.args.output_dir)
    assert [path.name for path in checkpoints(folder)][:2] == ["checkpoint-4", "checkpoint-3"]
    resumed.train(resume_from_checkpoint=True)
    assert resumed._initial_global_step == 3
    assert any("checkpoint-4 holds the model alone" in message for message in caplog.messages)
