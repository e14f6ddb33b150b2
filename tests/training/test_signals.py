"""A preempted job saves a checkpoint and leaves."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
from transformers import TrainerCallback

from itrd_nlp.cli.parser import parse
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import TrainingInterrupted
from itrd_nlp.training.arguments import FineTuningArguments
from itrd_nlp.training.checkpoints import damage
from itrd_nlp.training.signals import StopOnSignal


class SendSignal(TrainerCallback):
    def __init__(self, number, step):
        self.number, self.step = number, step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def make_trainer(tmp_path, teacher, student, make_rows, collate):
    def make_trainer(*callbacks, **kwargs):
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 4,
            "max_steps": 5,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }
        args = ITRDTrainingArguments(**(defaults | kwargs))
        return ITRDTrainer(
            model=student,
            teacher=teacher,
            args=args,
            train_dataset=datasets.Dataset.from_list(make_rows(20)),
            eval_dataset=datasets.Dataset.from_list(make_rows(4)),
            data_collator=collate,
            callbacks=list(callbacks),
        )

    return make_trainer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_a_checkpoint_after_the_step_that_runs(make_trainer, number):
    handler = signal.getsignal(number)
    trainer = make_trainer(SendSignal(number, step=3))
    with pytest.raises(TrainingInterrupted, match=number.name) as stop:
        trainer.train()
    assert stop.value.signum == number
    assert stop.value.resume == "--resume_from_checkpoint true"
    assert Path(stop.value.checkpoint).name == "checkpoint-3"
    assert damage(Path(stop.value.checkpoint)) is None
    assert signal.getsignal(number) is handler

    resumed = make_trainer()
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 5
    assert resumed._initial_global_step == 3


def test_a_run_that_replaced_an_earlier_one_is_not_replaced_by_its_second_part(make_trainer):
    trainer = make_trainer(SendSignal(signal.SIGTERM, step=1), overwrite_output_dir=True)
    with pytest.raises(TrainingInterrupted) as stop:
        trainer.train()
    options = ["--overwrite_output_dir", "true", *stop.value.resume.split()]
    (args,) = parse([FineTuningArguments], [*options, "--output_dir", "run"])
    assert (args.overwrite_output_dir, args.resume_from_checkpoint) == (False, "true")
    resumed = make_trainer(overwrite_output_dir=args.overwrite_output_dir)
    resumed.train(resume_from_checkpoint=args.resume_from_checkpoint)
    assert resumed._initial_global_step == 1


def test_handlers_are_put_back_after_an_undisturbed_training(make_trainer):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    make_trainer().train()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_signal_ends_the_process_at_once(make_trainer):
    """It meets the handlers that were there before, so that Ctrl-C twice is Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            make_trainer(
                SendSignal(signal.SIGTERM, step=2), SendSignal(signal.SIGINT, step=2)
            ).train()
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_same_sigterm_by_a_cluster_and_by_a_launcher_is_one(make_trainer):
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as itself it ends the test
    try:
        with pytest.raises(TrainingInterrupted) as stop:
            make_trainer(
                SendSignal(signal.SIGTERM, step=2), SendSignal(signal.SIGTERM, step=2)
            ).train()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert Path(stop.value.checkpoint).name == "checkpoint-2"


def test_a_sigterm_that_comes_later_is_a_second_one(make_trainer, monkeypatch):
    monkeypatch.setattr("itrd_nlp.training.signals.TOGETHER_SECONDS", -1.0)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            make_trainer(
                SendSignal(signal.SIGTERM, step=2), SendSignal(signal.SIGTERM, step=2)
            ).train()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_put_back_after_a_training_that_failed(make_trainer):
    """Otherwise the first Ctrl-C after it would do nothing."""

    class Fail(TrainerCallback):
        def on_step_end(self, *_, **__):
            raise RuntimeError("out of luck")

    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(RuntimeError, match="out of luck"):
        make_trainer(Fail()).train()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


class InTheLastEvaluation(TrainerCallback):
    """Sends a signal when the last step has been made and logged, and the evaluation is done."""

    def on_evaluate(self, args, state, control, **kwargs):
        if state.global_step == args.max_steps:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_after_the_last_step_saves_a_checkpoint_from_which_nothing_is_left_to_learn(
    make_trainer,
):
    handler = signal.getsignal(signal.SIGTERM)
    constant = {"lr_scheduler_type": "constant"}  # a step after the last one learns something
    trainer = make_trainer(
        InTheLastEvaluation(), max_steps=4, eval_strategy="steps", eval_steps=4, **constant
    )
    with pytest.raises(TrainingInterrupted, match="SIGTERM") as stop:
        trainer.train()
    assert Path(stop.value.checkpoint).name == "checkpoint-4"
    assert damage(Path(stop.value.checkpoint)) is None
    assert signal.getsignal(signal.SIGTERM) is handler
    learned = {name: value.clone() for name, value in trainer.learner.state_dict().items()}

    # The checkpoint lies in the middle of an epoch, where transformers would make a fifth step.
    resumed = make_trainer(max_steps=4, **constant)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 4
    for name, value in resumed.learner.state_dict().items():
        assert torch.equal(value, learned[name]), name


def test_where_the_best_steps_alone_are_saved_a_signal_saves_its_step(make_trainer):
    """The first evaluation is the best one, so that no later step would be saved."""
    best = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "best",
        "metric_for_best_model": "loss",
        "greater_is_better": True,
        "learning_rate": 1e-2,
    }
    trainer = make_trainer(SendSignal(signal.SIGTERM, step=3), **best)
    with pytest.raises(TrainingInterrupted) as stop:
        trainer.train()
    assert (trainer.state.global_step, trainer.state.best_global_step) == (3, 1)
    assert Path(stop.value.checkpoint).name == "checkpoint-3"
    assert damage(Path(stop.value.checkpoint)) is None
    resumed = make_trainer(**best)
    resumed.train(resume_from_checkpoint=True)
    assert (resumed._initial_global_step, resumed.state.global_step) == (3, 5)


def test_a_signal_while_the_processes_agree_is_known_to_all_the_next_time(monkeypatch):
    """It came after this process gave its number, so that the others do not save yet."""
    stop = StopOnSignal()
    args = SimpleNamespace(world_size=2, device="cpu")
    stop.on_train_begin(args, SimpleNamespace(global_step=0))
    controls = []
    try:
        for step, exchange in (
            (10, lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)),
            (20, lambda *_, **__: None),
        ):
            monkeypatch.setattr("torch.distributed.all_reduce", exchange)
            controls.append(SimpleNamespace(should_save=False))
            state = SimpleNamespace(global_step=step, max_steps=100, epoch=step / 100)
            stop.on_step_end(args, state, controls[-1])
    finally:
        stop.restore()
    assert [control.should_save for control in controls] == [False, True]
    assert stop.received == signal.SIGTERM


def test_a_signal_while_the_processes_agree_for_the_last_time_ends_its_process(monkeypatch):
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    stop = StopOnSignal()
    args = SimpleNamespace(world_size=2, device="cpu")
    stop.on_train_begin(args, SimpleNamespace(global_step=0))
    monkeypatch.setattr(
        "torch.distributed.all_reduce", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
    )
    try:
        with pytest.raises(KeyboardInterrupt):
            stop.obey(args, SimpleNamespace(global_step=9), lambda: None)
    finally:
        stop.restore()
        signal.signal(signal.SIGTERM, before)
