"""A resumed run goes on as an undisturbed one: its watching, what callbacks have counted, and its last evaluation."""

from __future__ import annotations

import contextlib
import signal
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

from interruptions import Before, Killed, kill, terminate

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
        *callbacks: TrainerCallback, folder: str = "run", dropout: float = 0.3, **kwargs: Any
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


AFTER_THE_STEP = {"eval_strategy": "epoch", "logging_strategy": "epoch", "save_steps": 1}
"""Three steps are an epoch. The checkpoint of step 3 is older than the log and the evaluation of its epoch."""


class DiesInEvaluation(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_prediction_step(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step == self.step:
            raise Killed


@pytest.mark.parametrize("ends", [kill(4), kill(7), DiesInEvaluation(3), DiesInEvaluation(6)])
@pytest.mark.parametrize("steps", [6, 8])
def test_a_checkpoint_of_the_last_step_of_an_epoch_does_not_pass_over_its_end(
    make_trainer, ends, steps
) -> None:
    settings = AFTER_THE_STEP | {"max_steps": steps}
    undisturbed = make_trainer(folder="undisturbed", **settings)
    undisturbed.train()
    with contextlib.suppress(Killed):
        make_trainer(ends, **settings).train()
    resumed = make_trainer(**settings)
    resumed.train(resume_from_checkpoint=True)
    assert steps_with(undisturbed, "eval_loss") == sorted({3, 6, steps})
    assert rows_without_times(resumed) == rows_without_times(undisturbed)
    assert_same_weights(resumed, undisturbed)


@pytest.mark.parametrize("save_strategy", ["no", "steps", "epoch", "best"])
@pytest.mark.parametrize("step", [3, 6])
def test_a_signal_in_the_last_step_of_an_epoch_costs_no_evaluation_and_no_bit(
    make_trainer, save_strategy, step
) -> None:
    settings = AFTER_THE_STEP | {
        **{"save_strategy": save_strategy, "save_steps": 100, "max_steps": 6},
        **{"metric_for_best_model": "loss", "load_best_model_at_end": save_strategy != "no"},
    }
    if save_strategy == "steps":  # transformers wants both at the same steps
        settings |= {"load_best_model_at_end": False}
    undisturbed = make_trainer(folder="undisturbed", **settings)
    undisturbed.train()
    evaluated = Evaluations()
    with pytest.raises(TrainingInterrupted) as stop:
        make_trainer(terminate(step), evaluated, **settings).train()
    assert Path(stop.value.checkpoint).name == f"checkpoint-{step}"
    assert evaluated.steps == [3][: step > 3]  # the run leaves at once
    with pytest.raises(Killed):
        make_trainer(DiesInEvaluation(step), **settings).train(resume_from_checkpoint=True)
    resumed = make_trainer(**settings)
    resumed.train(resume_from_checkpoint=True)
    assert rows_without_times(resumed) == rows_without_times(undisturbed)
    assert_same_weights(resumed, undisturbed)


class Evaluations(TrainerCallback):
    """Notes the steps that are evaluated, the order of the epochs, and who takes a signal meanwhile."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.order: list[str] = []
        self.handlers: list[Any] = []

    def on_evaluate(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        self.steps.append(state.global_step)
        self.handlers.append(signal.getsignal(signal.SIGTERM))

    def on_epoch_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        self.order.append(f"{state.epoch:g} begins")

    def on_epoch_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        self.order.append(f"{state.epoch:g} ends")


def test_what_is_made_up_for_comes_before_the_next_epoch_and_a_signal_is_heard(
    make_trainer,
) -> None:
    settings = AFTER_THE_STEP | {"max_steps": 6}
    with pytest.raises(Killed):
        make_trainer(DiesInEvaluation(3), **settings).train()
    seen = Evaluations()
    make_trainer(seen, **settings).train(resume_from_checkpoint=True)
    assert seen.order == ["1 ends", "1 begins", "2 ends"]
    assert signal.SIG_DFL not in seen.handlers


def test_an_early_stop_in_the_middle_of_an_epoch_is_logged_by_the_resumed_run(make_trainer) -> None:
    class DiesAtTheStop(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if control.should_training_stop:
                raise Killed

    settings = WORSE | {"logging_strategy": "epoch"}
    undisturbed = make_trainer(EarlyStoppingCallback(1), folder="undisturbed", **settings)
    undisturbed.train()
    with pytest.raises(Killed):
        make_trainer(EarlyStoppingCallback(1), DiesAtTheStop(), **settings).train()
    resumed = make_trainer(EarlyStoppingCallback(1), **settings)
    resumed.train(resume_from_checkpoint=True)
    assert undisturbed.state.global_step == 2
    assert rows_without_times(resumed) == rows_without_times(undisturbed)


def test_a_stream_whose_pass_has_ended_logs_the_same_row(make_trainer) -> None:
    def make(*callbacks: TrainerCallback, **kwargs: Any) -> Any:
        trainer = make_trainer(*callbacks, **AFTER_THE_STEP, **kwargs)
        trainer.train_dataset = trainer.train_dataset.to_iterable_dataset()
        return trainer

    undisturbed = make(folder="undisturbed")
    undisturbed.train()
    with pytest.raises(Killed):
        make(kill(4)).train()
    resumed = make()
    resumed.train(resume_from_checkpoint=True)
    assert rows_without_times(resumed) == rows_without_times(undisturbed)
    assert_same_weights(resumed, undisturbed)


def test_a_training_is_no_end_of_an_epoch_of_the_training_before(make_trainer) -> None:
    seen = Evaluations()
    trainer = make_trainer(kill(3), seen, **AFTER_THE_STEP | {"save_strategy": "no"})
    with pytest.raises(Killed):
        trainer.train()
    trainer.remove_callback(Before)
    trainer.train()
    assert seen.steps == [3, 6, 8]


def test_an_evaluation_changes_no_bit_of_the_training(make_trainer) -> None:
    """Its data loader draws from the generator that the dropout draws from, too."""
    watched = make_trainer(folder="watched", eval_strategy="steps", eval_steps=1)
    watched.train()
    alone = make_trainer(folder="alone")
    alone.train()
    assert_same_weights(watched, alone)
