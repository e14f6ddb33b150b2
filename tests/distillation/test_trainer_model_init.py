"""`model_init`, and `hyperparameter_search` over the arguments of the objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerState

from itrd_nlp.errors import UserError
from itrd_nlp.training.checkpoints import checkpoints


def weights(trainer: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_a_function_makes_the_student_that_is_trained(make_itrd, make_bert) -> None:
    made = make_itrd(given={"model_init": lambda: make_bert(2, seed=1)})
    made.train()
    given = make_itrd(make_bert(2, seed=1))
    given.train()
    # Dropout is 0, so that only the draws of the losses could differ; they read all tokens here.
    torch.testing.assert_close(weights(made), weights(given))


def test_each_training_begins_with_a_new_student(make_itrd, make_bert) -> None:
    trainer = make_itrd(given={"model_init": lambda: make_bert(2, seed=1)})
    trainer.train()
    first = weights(trainer)
    trainer.train()
    assert torch.equal(weights(trainer), first)


def test_a_training_by_a_function_is_resumed_to_the_same_bits(make_itrd, make_bert) -> None:
    given = {"model_init": lambda: make_bert(2, seed=1)}
    steps = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = make_itrd(given=given, **steps)
    whole.train()
    half = Path(whole.args.output_dir) / "checkpoint-2"
    again = make_itrd(given=given, **steps)
    again.train(resume_from_checkpoint=str(half))
    assert again._initial_global_step == 2
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.parametrize("given", [{}, {"model_init": lambda: None}])
def test_there_is_one_student_and_not_two(make_itrd, student, given) -> None:
    with pytest.raises(UserError, match="give either model, the student, or model_init"):
        make_itrd(student if given else None, given=given)


# ---- search ----


def search(trainer: Any, space: Any, trials: int = 2, **kwargs: Any) -> Any:
    pytest.importorskip("optuna").logging.set_verbosity(30)
    return trainer.hyperparameter_search(
        hp_space=space, n_trials=trials, backend="optuna", direction="minimize", **kwargs
    )


@pytest.fixture
def searching(make_itrd, make_bert, make_rows):
    def searching(**kwargs: Any) -> Any:
        defaults = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps"}
        return make_itrd(
            given={"model_init": lambda: make_bert(2, seed=1)},
            eval_rows=make_rows(4, seed=3),
            **(defaults | {"save_steps": 3} | kwargs),
        )

    return searching


def test_each_trial_has_the_values_of_its_own_objective(make_itrd, make_bert, searching) -> None:
    """A trial learns what a training with these arguments learns, projections of other layers included."""
    tried = [
        {"w_kd": 3.0, "beta_corr": 0.0, "learning_rate": 1e-2},
        {"w_kd": 1.0, "beta_corr": 5.0, "learning_rate": 5e-3},
    ]

    def space(trial: Any) -> dict[str, Any]:
        return {
            name: trial.suggest_categorical(f"{name}_{trial.number}", [value])
            for name, value in tried[trial.number].items()
        }

    trainer = searching()
    best = search(trainer, space)
    folder = Path(trainer.args.output_dir)
    losses = []
    for number, values in enumerate(tried):
        (checkpoint,) = checkpoints(folder / f"run-{number}")
        alone = make_itrd(make_bert(2, seed=1), output_dir=str(folder / "alone"), **values)
        alone.train()
        own = alone.state.log_history
        logged = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).log_history
        steps = [row for row in logged if "corr" in row or "kd" in row]
        for row, expected in zip(steps, own[:-1], strict=True):
            assert row["loss"] == pytest.approx(expected["loss"], rel=1e-5)
            assert ("corr" in row) == (values["beta_corr"] > 0)
        losses.append(logged[-1]["eval_loss"])
    assert best.objective == pytest.approx(min(losses))


def test_the_arguments_of_a_trial_may_shape_the_student(make_bert, make_itrd, make_rows) -> None:
    layers = []

    def model_init(trial: Any) -> Any:
        count = 1
        if trial is not None:
            count = trial.suggest_categorical(f"layers_{trial.number}", [trial.number + 1])
        layers.append(count)
        return make_bert(count, seed=1)

    trainer = make_itrd(
        given={"model_init": model_init}, eval_rows=make_rows(4, seed=3), max_steps=1
    )
    found = []
    original = trainer.identity
    trainer.identity = lambda: found.append(original()) or found[-1]
    search(trainer, lambda trial: {"learning_rate": 1e-3}, trials=2)
    assert layers[1:] == [1, 2]  # each trial makes one student
    pairs = {1: ["1:4"], 2: ["1:2", "2:4"]}
    assert [one["layer_pairs"] for one in found] == [pairs[count] for count in layers[1:]]


def test_a_value_of_a_trial_that_is_not_allowed_is_refused(searching) -> None:
    trainer = searching()
    with pytest.raises(UserError, match=r"temperature is 0\.0, but must be a finite number > 0"):
        search(trainer, lambda trial: {"temperature": trial.suggest_categorical("t", [0.0])})


def test_a_second_search_does_not_write_into_the_trials_of_the_first(searching) -> None:
    search(searching(), lambda trial: {"learning_rate": 1e-3}, trials=1)
    with pytest.raises(UserError, match="run-0 holds checkpoint-3 of an earlier run"):
        search(searching(), lambda trial: {"learning_rate": 1e-3}, trials=1)
