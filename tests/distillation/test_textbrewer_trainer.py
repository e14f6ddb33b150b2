"""TextBrewer's own distiller on our data."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F

from itrd_nlp.distillation.textbrewer_trainer import (
    TextBrewerArguments,
    TextBrewerTrainer,
    textbrewer_matches,
)
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.models.students import build_student

pytest.importorskip("textbrewer")


@pytest.fixture
def make_trainer(tmp_path, teacher, make_rows, collate) -> Any:
    def make_trainer(student=None, **kwargs: Any) -> TextBrewerTrainer:
        args = TextBrewerArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            train_sampling_strategy="sequential",
            report_to="none",
            **{"num_train_epochs": 1, "learning_rate": 1e-2, **kwargs},
        )
        return TextBrewerTrainer(
            model=student or build_student(teacher, 2),
            teacher=teacher,
            args=args,
            train_dataset=Dataset.from_list(make_rows(16)),
            data_collator=collate,
        )

    return make_trainer


def test_an_sgd_step_is_that_of_its_formulas_written_out(make_trainer, teacher, make_rows, collate):
    student = build_student(teacher, 2, init="first")
    ours = copy.deepcopy(student)
    trainer = make_trainer(
        student,
        max_steps=1,
        optim="sgd",
        weight_decay=0,
        max_grad_norm=0,
        temperature=3.0,
        kd_loss_weight=2.0,
        hard_label_weight=0.5,
        losses=["hidden_mse"],
        match_weight=0.25,
        lr_scheduler_type="constant",
    )
    trainer.train()

    batch = collate(make_rows(16)[:4])
    out = ours(**batch, output_hidden_states=True)
    with torch.no_grad():
        taught = teacher(**batch, output_hidden_states=True)
    soft = [
        -(F.softmax(t / 3, -1) * F.log_softmax(s / 3, -1)).sum(-1).mean()
        for s, t in (
            (out.start_logits, taught.start_logits),
            (out.end_logits, taught.end_logits),
        )
    ]
    valid = batch["attention_mask"].bool()
    mse = [
        (out.hidden_states[s][valid] - taught.hidden_states[t][valid]).square().mean()
        for s, t in ((0, 0), (1, 2), (2, 4))
    ]
    (2.0 * sum(soft) + 0.5 * out.loss + 0.25 * sum(mse)).backward()
    for name, parameter in ours.named_parameters():
        moved = dict(student.named_parameters())[name]
        expected = parameter.detach() - 1e-2 * parameter.grad
        torch.testing.assert_close(moved.detach(), expected, atol=1e-6, rtol=1e-4)


def test_a_run_counts_its_steps_and_leaves_the_teacher_alone(make_trainer, teacher):
    before = copy.deepcopy(teacher.state_dict())
    student = build_student(teacher, 2)
    start = copy.deepcopy(student.state_dict())
    trainer = make_trainer(student, num_train_epochs=2, bf16=True, emulate_bf16=True)
    output = trainer.train()
    assert output.global_step == trainer.state.global_step == 8
    assert 0 < output.training_loss < 20
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert any(not torch.equal(start[name], v) for name, v in student.state_dict().items())
    known = trainer.known_record()
    assert (known.method, known.layer_pairs) == ("TextBrewer", ["0:0", "1:2", "2:4"])


def test_the_student_trains_in_the_mode_of_training_and_the_teacher_does_not(make_trainer):
    """Else a student would learn without the dropout of its configuration, or a teacher would teach with it."""
    trainer = make_trainer()
    modes = {"student": set(), "teacher": set()}
    trainer.published_model.eval()
    for name, model in (("student", trainer.published_model), ("teacher", trainer.teacher)):
        model.register_forward_pre_hook(lambda m, _, seen=modes[name]: seen.add(m.training))
    trainer.train()
    assert modes == {"student": {True}, "teacher": {False}}


def test_a_run_logs_its_task_loss_as_often_as_it_is_asked_to(make_trainer):
    trainer = make_trainer(
        num_train_epochs=2, gradient_accumulation_steps=2, logging_steps=0.25, disable_tqdm=True
    )
    output = trainer.train()
    logs = trainer.state.log_history
    assert [log["step"] for log in logs] == [1, 2, 3, 4]
    assert [log["epoch"] for log in logs] == [0.5, 1, 1.5, 2]
    mean = sum(log["task"] for log in logs) / len(logs)
    assert mean == pytest.approx(output.training_loss)
    quiet = make_trainer(logging_strategy="no")
    quiet.train()
    assert quiet.state.log_history == []


def test_the_recipe_is_that_of_its_scripts():
    pairs = [LayerPair(0, 0), LayerPair(1, 4)]
    mse, _, mmd, last = textbrewer_matches(pairs, ["hidden_mse", "mmd"], 1.0)
    assert mse == {
        "layer_T": 0,
        "layer_S": 0,
        "feature": "hidden",
        "loss": "hidden_mse",
        "weight": 1.0,
    }
    assert (mmd["layer_T"], mmd["layer_S"]) == ([0, 0], [0, 0])
    assert (last["layer_T"], last["layer_S"], last["loss"]) == ([4, 4], [1, 1], "mmd")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("temperature", 0.0, "temperature is 0.0, but must be a finite number > 0"),
        ("match_weight", -1.0, "match_weight is -1.0"),
        ("losses", ["nst"], "losses name 'nst', but must be of hidden_mse, mmd"),
        ("num_train_epochs", 0.5, "num_train_epochs is 0.5, but TextBrewer trains whole epochs"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(tmp_path, field, value, sentence):
    with pytest.raises(UserError, match=sentence):
        TextBrewerArguments(output_dir=str(tmp_path), **{field: value})


def test_a_narrower_student_is_refused(make_trainer, narrow_student):
    with pytest.raises(UserError, match="16 wide and the teacher 32"):
        make_trainer(narrow_student)
