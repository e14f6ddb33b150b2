"""A resumed run goes on as an undisturbed one: its watching, what callbacks have counted, and its last evaluation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from itrd_nlp.errors import TrainingInterrupted
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.checkpoints import checkpoints
from itrd_nlp.training.trainer import BaseTrainer

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from interruptions import Killed, kill, terminate

# The untrained model has the largest loss, so that no later evaluation is better.
WORSE = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_steps": 1,
    "metric_for_best_model": "loss",
    "greater_is_better": True,
    "load_best_model_at_end": True,
}


@pytest.fixture
def make_trainer(tmp_path, make_bert, make_rows, collate):
    def make_trainer(
        *callbacks: TrainerCallback, folder: str = "run", dropout: float = 0.0, **kwargs: Any
    ) -> Any:
        defaults = {
            "output_dir": str(tmp_path / folder),
            "per_device_train_batch_size": 4,
            "max_steps": 8,
            "learning_rate": 1e-2,
            "save_steps": 3,
            "report_to": "none",
            "disable_tqdm": True,
        }
        return BaseTrainer(
            model=make_bert(2, seed=1, hidden_dropout_prob=dropout),
            args=FineTuningArguments(**(defaults | kwargs)),
            train_dataset=datasets.Dataset.from_list(make_rows(12)),
            eval_dataset=datasets.Dataset.from_list(make_rows(4, seed=3)),
            data_collator=collate,
            callbacks=list(callbacks),
        )

    return make_trainer


def steps_with(trainer: Any, name: str) -> list[int]:
    return [row["step"] for row in trainer.state.log_history if name in row]


def rows_without_times(trainer: Any) -> list[dict[str, Any]]:
    return [
        {
            name: value
            for name, value in row.items()
            if "runtime" not in name and "per_second" not in name
        }
        for row in trainer.state.log_history
    ]


def assert_same_weights(ours: Any, expected: Any) -> None:
    for name, value in expected.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value), name


def test_a_resumed_run_is_logged_evaluated_and_saved_as_often_as_it_says(make_trainer) -> None:
    with pytest.raises(Killed):
        make_trainer(kill(5)).train()
    resumed = make_trainer(save_steps=2, logging_steps=1, eval_strategy="steps", eval_steps=0.25)
    resumed.train(resume_from_checkpoint=True)
    saved = [path.name for path in checkpoints(Path(resumed.args.output_dir))]
    assert saved == [f"checkpoint-{step}" for step in (8, 6, 4, 3)]
    assert steps_with(resumed, "loss") == [4, 5, 6, 7, 8]
    assert steps_with(resumed, "eval_loss") == [4, 6, 8]


@pytest.mark.parametrize("others", [0, 1])
def test_early_stopping_goes_on_counting(make_trainer, others) -> None:
    """Another callback of the same class, which never stops the run, stands before it."""

    def make(*callbacks: TrainerCallback, **kwargs: Any) -> Any:
        stops = [EarlyStoppingCallback(99) for _ in range(others)] + [EarlyStoppingCallback(4)]
        return make_trainer(*stops, *callbacks, **WORSE, **kwargs)

    undisturbed = make(folder="undisturbed")
    undisturbed.train()
    with pytest.raises(Killed):
        make(kill(4)).train()
    resumed = make()
    resumed.train(resume_from_checkpoint=True)
    assert undisturbed.state.global_step == resumed.state.global_step == 5
    assert_same_weights(resumed, undisturbed)


def test_a_run_that_stopped_early_makes_no_more_steps_without_more_patience(make_trainer) -> None:
    finished = make_trainer(EarlyStoppingCallback(2), **WORSE)
    finished.train()
    assert finished.state.global_step == 3
    again = make_trainer(EarlyStoppingCallback(2), **WORSE)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 3
    assert_same_weights(again, finished)
    patient = make_trainer(EarlyStoppingCallback(4), **WORSE)
    patient.train(resume_from_checkpoint=True)
    assert patient.state.global_step == 5


def test_early_stopping_can_begin_at_a_checkpoint_without_it(make_trainer) -> None:
    with pytest.raises(Killed):
        make_trainer(kill(4), **WORSE).train()
    resumed = make_trainer(EarlyStoppingCallback(2), **WORSE)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 5


def test_a_signal_in_the_last_step_of_an_epoch_waits_for_the_end_of_the_epoch(make_trainer) -> None:
    """Three steps are an epoch. A run that is resumed after them would never evaluate it."""
    at_the_end = {
        **{"eval_strategy": "epoch", "save_strategy": "epoch", "logging_strategy": "epoch"},
        **{"load_best_model_at_end": True, "max_steps": 6},
    }
    with pytest.raises(TrainingInterrupted) as stop:
        make_trainer(terminate(3), **at_the_end).train()
    assert Path(stop.value.checkpoint).name == "checkpoint-3"
    resumed = make_trainer(**at_the_end)
    resumed.train(resume_from_checkpoint=True)
    assert steps_with(resumed, "eval_loss") == steps_with(resumed, "loss") == [3, 6]


def test_the_evaluation_of_an_epoch_does_not_keep_a_signal_from_its_checkpoint(
    make_trainer, tmp_path
) -> None:
    """A cluster may kill the run in the evaluation."""
    seen = []

    class Looks(TrainerCallback):
        def on_prediction_step(self, *_, **__):
            seen.append(any(tmp_path.rglob("checkpoint-3")))

    quiet = {"eval_strategy": "epoch", "save_strategy": "no", "max_steps": 6}
    with pytest.raises(TrainingInterrupted):
        make_trainer(terminate(3), Looks(), **quiet).train()
    assert seen
    assert all(seen)


AFTER_THE_STEP = {"eval_strategy": "epoch", "logging_strategy": "epoch", "save_strategy": "steps"}


@pytest.mark.parametrize("step", [5, 7])
def test_a_checkpoint_of_the_last_step_of_an_epoch_does_not_pass_over_its_end(
    make_trainer, step
) -> None:
    """Three steps are an epoch. The checkpoint of step 3 or 6 is older than the log and the evaluation of its epoch."""
    undisturbed = make_trainer(folder="undisturbed", **AFTER_THE_STEP)
    undisturbed.train()
    with pytest.raises(Killed):
        make_trainer(kill(step), **AFTER_THE_STEP).train()
    resumed = make_trainer(**AFTER_THE_STEP)
    resumed.train(resume_from_checkpoint=True)
    found, expected = (rows_without_times(trainer) for trainer in (resumed, undisturbed))
    assert [row["step"] for row in found if "eval_loss" in row] == [3, 6, 8]
    assert found == expected
    assert_same_weights(resumed, undisturbed)


def test_the_evaluation_of_the_last_epoch_is_made_up_for(make_trainer) -> None:
    class DiesInTheLastEvaluation(TrainerCallback):
        def on_prediction_step(self, args, state, *_, **__):
            if state.global_step == 6:
                raise Killed

    settings = AFTER_THE_STEP | {"max_steps": 6}
    with pytest.raises(Killed):
        make_trainer(DiesInTheLastEvaluation(), **settings).train()
    resumed = make_trainer(**settings)
    resumed.train(resume_from_checkpoint=True)
    assert steps_with(resumed, "loss") == steps_with(resumed, "eval_loss") == [3, 6]


def test_the_end_of_an_epoch_that_its_checkpoint_holds_is_not_repeated(make_trainer) -> None:
    settings = AFTER_THE_STEP | {"save_strategy": "epoch"}
    with pytest.raises(Killed):
        make_trainer(kill(5), **settings).train()
    resumed = make_trainer(**settings)
    resumed.train(resume_from_checkpoint=True)
    assert steps_with(resumed, "loss") == steps_with(resumed, "eval_loss") == [3, 6, 8]


def test_an_evaluation_changes_no_bit_of_the_training(make_trainer) -> None:
    """Its data loader draws from the generator that the dropout draws from, too."""
    watched = make_trainer(folder="watched", eval_strategy="steps", eval_steps=1, dropout=0.3)
    watched.train()
    alone = make_trainer(folder="alone", dropout=0.3)
    alone.train()
    assert_same_weights(watched, alone)
