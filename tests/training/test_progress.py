"""Time, losses and history of a resumed training are those of the whole."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from transformers import TrainerCallback

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.training.progress import PROGRESS_NAME, Progress


class Kill(TrainerCallback):
    """Ends the training after a step, as a kill does: without a last checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def make_trainer(tmp_path, teacher, make_bert, make_rows, collate):
    def make_trainer(*callbacks, name="run", **kwargs):
        defaults = {
            "output_dir": str(tmp_path / name),
            "per_device_train_batch_size": 4,
            "max_steps": 10,
            "save_strategy": "steps",
            "save_steps": 3,
            "logging_steps": 4,
            "report_to": "none",
            "disable_tqdm": True,
            "learning_rate": 1e-3,
        }
        return ITRDTrainer(
            model=make_bert(2, seed=1, hidden_dropout_prob=0.1),
            teacher=teacher,
            args=ITRDTrainingArguments(**(defaults | kwargs)),
            train_dataset=datasets.Dataset.from_list(make_rows(40)),
            data_collator=collate,
            callbacks=list(callbacks),
        )

    return make_trainer


# Steps at which a run is killed: before and after a log that follows a checkpoint; twice.
@pytest.mark.parametrize("kills", [[4], [8], [5, 8]])
def test_a_resumed_run_reports_what_an_undisturbed_one_does(make_trainer, kills) -> None:
    whole = make_trainer(name="whole")
    expected = whole.train()
    for step in kills:
        with pytest.raises(KeyboardInterrupt):
            make_trainer(Kill(step)).train(resume_from_checkpoint=True)
    resumed = make_trainer()
    output = resumed.train(resume_from_checkpoint=True)
    assert resumed._initial_global_step > 0
    assert output.training_loss == resumed.train_loss == expected.training_loss
    *rows, last = resumed.state.log_history
    *expected_rows, expected_last = whole.state.log_history
    assert rows == expected_rows  # with every term of steps before and after the kill
    for name in ("train_loss", "total_flos", "step", "epoch"):
        assert last[name] == expected_last[name]
    assert [row["step"] for row in rows] == [4, 8]


def test_the_time_is_that_of_all_parts(make_trainer, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_trainer(Kill(7)).train()
    path = tmp_path / "run" / "checkpoint-6"
    before = Progress.read(path)
    assert before is not None and before.seconds > 0
    before.seconds += 1000
    before.write(path)
    _reseal(path)
    resumed = make_trainer()
    output = resumed.train(resume_from_checkpoint=True)
    assert resumed.train_seconds > before.seconds
    last = resumed.state.log_history[-1]
    assert output.metrics["train_runtime"] == last["train_runtime"] > before.seconds
    assert last["train_steps_per_second"] == pytest.approx(10 / last["train_runtime"], abs=1e-3)
    assert last["train_samples_per_second"] == pytest.approx(40 / last["train_runtime"], abs=1e-3)


def test_an_undisturbed_run_knows_its_time(make_trainer) -> None:
    trainer = make_trainer()
    assert trainer.train_seconds is None
    output = trainer.train()
    assert trainer.train_seconds > output.metrics["train_runtime"] > 0


def test_where_the_checkpoint_recorded_no_progress_the_whole_is_not_known(
    make_trainer, tmp_path
) -> None:
    """Checkpoints of earlier versions."""
    with pytest.raises(KeyboardInterrupt):
        make_trainer(Kill(7)).train()
    path = tmp_path / "run" / "checkpoint-6"
    (path / PROGRESS_NAME).unlink()
    _reseal(path)
    trainer = make_trainer()
    trainer.train(resume_from_checkpoint=True)
    assert trainer.train_seconds is None and trainer.train_loss is None
    assert not (tmp_path / "run" / "checkpoint-9" / PROGRESS_NAME).exists()


def _reseal(folder: Path) -> None:
    from itrd_nlp.training.checkpoints import seal

    seal(folder)
