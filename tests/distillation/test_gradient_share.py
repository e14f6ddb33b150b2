"""The losses between hidden states hold the share of the gradient that was asked for, by one rule and no weights."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
import torch
from torch import Tensor

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.gradient_share import MEASURE_EVERY, GradientShare
from itrd_nlp.distillation.objective import BatchShare, ITRDObjective
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import EncoderOutput, LayerPair
from itrd_nlp.models.encode import encode

PAIRS = [LayerPair(1, 2), LayerPair(2, 4)]


def gradient_norm(loss: Tensor, state: Tensor) -> float:
    (gradient,) = torch.autograd.grad(loss, state, retain_graph=True)
    return gradient.norm().item()


@pytest.fixture
def run(tmp_path: Any, teacher: Any, student: Any, span_batch: Any) -> Any:
    """Objective, terms and the student's output of one batch."""
    inputs = {k: v for k, v in span_batch.items() if not k.endswith("positions")}
    with torch.no_grad():
        target = encode(teacher.eval(), inputs, [2, 4])[1]

    def run(
        share: BatchShare, **settings: Any
    ) -> tuple[ITRDObjective, dict[str, Tensor], EncoderOutput]:
        args = ITRDTrainingArguments(output_dir=str(tmp_path), **settings)
        torch.manual_seed(0)
        objective = ITRDObjective(PAIRS, student_size=32, teacher_size=32, args=args)
        own = encode(student, inputs, [1, 2])[1]
        return objective, objective(own, target, None, span_batch["attention_mask"], share), own

    return run


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("beta", [0.01, 100.0])
def test_the_gradients_at_the_last_state_have_the_share_whatever_the_weights(
    run: Any, share: float, beta: float
) -> None:
    settings = {"w_task": 0.0, "beta_corr": beta, "beta_mi": 0.0}
    _, terms, own = run(BatchShare(measure=True), hidden_share=share, **settings)
    _, kd, kd_own = run(BatchShare(), w_task=0.0, beta_corr=0.0, beta_mi=0.0)
    _, corr, corr_own = run(BatchShare(), w_task=0.0, w_kd=0.0, beta_corr=beta, beta_mi=0.0)
    a = gradient_norm(kd["loss"], kd_own.hidden_states[2])
    h = terms["hidden_scale"].item() * gradient_norm(corr["loss"], corr_own.hidden_states[2])
    assert h / (a + h) == pytest.approx(share, rel=1e-4)
    torch.testing.assert_close(terms["loss"], kd["loss"] + terms["hidden_scale"] * corr["loss"])
    assert gradient_norm(terms["loss"], own.hidden_states[2]) > 0


def test_without_it_nothing_is_scaled(run: Any) -> None:
    objective, terms, _ = run(BatchShare(measure=True))
    assert objective.balance is None and "hidden_scale" not in terms
    assert not [name for name in objective.state_dict() if name.startswith("balance")]


def test_a_fading_weight_fades_all_the_same(run: Any) -> None:
    settings = {"w_task": 0.0, "beta_mi": 0.0, "hidden_share": 0.5}
    _, whole, _ = run(BatchShare(measure=True), **settings)
    _, faded, _ = run(BatchShare(measure=True, fade=0.25), **settings)
    torch.testing.assert_close(faded["hidden_scale"], whole["hidden_scale"])
    hidden = whole["loss"] - whole["kd"]
    torch.testing.assert_close(faded["loss"], faded["kd"] + 0.25 * hidden)
    _, gone, _ = run(BatchShare(measure=True, fade=0.0), **settings)
    assert gone["hidden_scale"] == 1 and gone["loss"].isfinite()


@pytest.fixture
def make_trainer(tmp_path: Any, teacher: Any, make_rows: Any, collate: Any) -> Any:
    def make_trainer(model: Any, **settings: Any) -> ITRDTrainer:
        args = ITRDTrainingArguments(
            output_dir=str(tmp_path / "run"),
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            train_sampling_strategy="sequential",
            disable_tqdm=True,
            **settings,
        )
        rows = datasets.Dataset.from_list(make_rows(16))
        return ITRDTrainer(
            model=model, teacher=teacher, args=args, train_dataset=rows, data_collator=collate
        )

    return make_trainer


def losses(answers: float, hidden: float) -> tuple[list[Tensor], list[Tensor], Tensor]:
    state = torch.ones(2, 3, 4, requires_grad=True)
    return [answers * state.sum()], [hidden * state.sum()], state


def test_a_measurement_counts_as_much_as_those_before_it() -> None:
    balance = GradientShare(0.5)
    answers, hidden, state = losses(2.0, 1.0)
    assert balance(answers, hidden, state, fade=1.0, measure=False) == 1
    assert balance(answers, hidden, state, fade=1.0, measure=True).item() == pytest.approx(2)
    answers, hidden, state = losses(8.0, 1.0)
    assert balance(answers, hidden, state, fade=1.0, measure=True).item() == pytest.approx(4)
    assert balance(answers, hidden, state, fade=1.0, measure=False).item() == pytest.approx(4)


@pytest.mark.parametrize(("answers", "hidden"), [(0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_a_gradient_that_says_nothing_leaves_the_scale(answers: float, hidden: float) -> None:
    """As in a warm start, which has no task loss and no KD yet."""
    balance = GradientShare(0.5)
    assert balance(*losses(answers, hidden), fade=1.0, measure=True) == 1
    balance(*losses(3.0, 1.0), fade=1.0, measure=True)
    assert balance(*losses(answers, hidden), fade=1.0, measure=True).item() == pytest.approx(3)


def test_a_state_that_a_loss_does_not_read_is_refused() -> None:
    answers, hidden, _ = losses(1.0, 1.0)
    with pytest.raises(UserError, match="add the student's last layer to layer_map"):
        GradientShare(0.5)(answers, hidden, torch.ones(1, requires_grad=True), fade=1, measure=True)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hidden_share": 1.0}, "hidden_share is 1.0, but must be at least 0 and below 1"),
        ({"beta_corr": 0, "beta_mi": 0}, "needs a loss between hidden states"),
        ({"w_task": 0, "w_kd": 0}, "and another loss beside it"),
        ({"fsdp": "full_shard"}, "under FSDP and DeepSpeed"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Any, settings: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ITRDTrainingArguments(output_dir=str(tmp_path), **{"hidden_share": 0.5} | settings)


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_the_config_of_a_launcher_shards_as_well(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "true")
    with pytest.raises(UserError, match="under FSDP and DeepSpeed"):
        ITRDTrainingArguments(output_dir=str(tmp_path), hidden_share=0.5)


def test_a_run_measures_now_and_then_and_resumes_to_the_bit(
    make_trainer: Any, make_bert: Any, tmp_path: Any
) -> None:
    run = {
        "hidden_share": 0.3,
        "num_train_epochs": 20,
        "max_steps": MEASURE_EVERY + 4,
        "save_strategy": "steps",
        "save_steps": 10,
        "logging_steps": 1,
    }
    whole = make_trainer(make_bert(2, seed=2), **run)
    whole.train()
    scales = [log["hidden_scale"] for log in whole.state.log_history if "hidden_scale" in log]
    assert len(set(scales[:MEASURE_EVERY])) == 1 and len(set(scales[MEASURE_EVERY:])) == 1
    assert scales[0] != scales[-1]
    expected = {name: p.clone() for name, p in whole.model.state_dict().items()}
    del whole
    again = make_trainer(make_bert(2, seed=2), **run)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-10"))
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
