"""TextBrewer's own distiller on our data."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments

from itrd_nlp.distillation.textbrewer_trainer import (
    TextBrewerArguments,
    TextBrewerTrainer,
    textbrewer_matches,
)
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.models.students import build_student
from itrd_nlp.training.roles import Role, role_of

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


# Every argument of transformers that changes the weights is heeded, has no meaning here, or is refused.
HEEDED = {
    *("num_train_epochs", "max_steps", "seed", "data_seed", "full_determinism"),
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("optim", "optim_args", "optim_target_modules", "weight_decay", "max_grad_norm"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "tf32", "use_cache"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "accelerator_config"),
    *("train_sampling_strategy", "length_column_name", "dataloader_drop_last"),
    *("dataloader_in_order", "remove_unused_columns", "label_names"),
}
WITHOUT_MEANING = {
    # A run is never resumed, and no evaluation chooses.
    *("ignore_data_skip", "metric_for_best_model", "greater_is_better"),
    # They say how another argument does what is refused.
    *("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"),
    *("torch_compile_backend", "torch_compile_mode"),
}
REFUSED: dict[str, Any] = {
    "fp16": True,
    "auto_find_batch_size": True,
    "average_tokens_across_devices": False,
    "label_smoothing_factor": 0.1,
    "neftune_noise_alpha": 5.0,
    "torch_compile": True,
    "activation_checkpointing": True,
    "gradient_checkpointing": True,
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "load_best_model_at_end": True,
}
# Of those that change no weights, the ones that ask for something.
ALSO_REFUSED: dict[str, Any] = {
    "eval_strategy": "epoch",
    "eval_on_start": True,
    "logging_first_step": True,
    "debug": "underflow_overflow",
    "torch_empty_cache_steps": 2,
}


def test_every_argument_that_changes_the_weights_is_decided():
    changing = {
        f.name for f in fields(TrainingArguments) if f.init and role_of(f) is Role.EXPERIMENT
    }
    assert changing == HEEDED | WITHOUT_MEANING | REFUSED.keys()
    assert not HEEDED & REFUSED.keys()


@pytest.mark.parametrize(("name", "value"), (REFUSED | ALSO_REFUSED).items())
def test_an_argument_that_its_loop_does_not_read_is_refused_by_name(tmp_path, name, value):
    more = {"eval_strategy": "steps"} if name == "load_best_model_at_end" else {}
    # The old name of the checkpointing means the new one.
    named = "(activation|gradient)_checkpointing" if name == "gradient_checkpointing" else name
    with pytest.raises((UserError, ImportError), match=next(iter(more), named)):
        TextBrewerArguments(output_dir=str(tmp_path), **{name: value}, **more)


def test_the_schedule_heeds_its_own_arguments(make_trainer):
    """The lowest rate of the schedule is the one that lr_scheduler_kwargs name, and not 0."""
    lowest = {"num_decay_steps": 4, "min_lr_ratio": 0.5}
    trainer = make_trainer(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs=lowest)
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.5e-2)


@pytest.mark.parametrize(("accumulation", "steps"), [(3, 4), (8, 2)])
def test_it_makes_as_many_steps_as_transformers_does(
    make_trainer, teacher, make_rows, collate, tmp_path, accumulation, steps
):
    """Four batches an epoch are no multiple of three, and fewer than eight."""
    given = {"num_train_epochs": 2, "gradient_accumulation_steps": accumulation}
    trainer = make_trainer(**given)
    theirs = Trainer(
        build_student(teacher, 2),
        TrainingArguments(
            str(tmp_path / "theirs"), per_device_train_batch_size=4, report_to="none", **given
        ),
        collate,
        Dataset.from_list(make_rows(16)),
    )
    assert theirs.train().global_step == steps
    assert trainer.train().global_step == steps


def test_a_run_logs_at_the_end_of_each_epoch_if_it_is_asked_to(make_trainer):
    trainer = make_trainer(num_train_epochs=2, logging_strategy="epoch", disable_tqdm=True)
    trainer.train()
    assert [log["epoch"] for log in trainer.state.log_history] == [1, 2]


def test_a_narrower_student_is_refused(make_trainer, narrow_student):
    with pytest.raises(UserError, match="16 wide and the teacher 32"):
        make_trainer(narrow_student)
