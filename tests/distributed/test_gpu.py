"""On a GPU: bf16, fp16 with the gradient scaler, what a step waits for, and the losses against the CPU's."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import datasets
import pytest
import torch
from transformers import TrainerCallback

import itrd_nlp
from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer
from itrd_nlp.losses import correlation_loss, mutual_information_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
]
TERMS = ("task", "kd", "corr", "mi")


@pytest.fixture
def make_trainer(tmp_path, monkeypatch, make_bert, make_rows, collate):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # of several GPUs, too, take one

    def make_trainer(**kwargs):
        settings = {
            "per_device_train_batch_size": 8,
            "max_steps": 4,
            "learning_rate": 1e-2,
            "optim": "sgd",
            "lr_scheduler_type": "constant",
            "train_sampling_strategy": "sequential",
            "save_strategy": "no",
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
            "mi_max_samples": 512,
        }
        args = ITRDTrainingArguments(output_dir=str(tmp_path), **(settings | kwargs))
        return ITRDTrainer(
            model=make_bert(2, seed=1, hidden_size=16),
            teacher=make_bert(4, seed=0),
            args=args,
            train_dataset=datasets.Dataset.from_list(make_rows(32)),
            data_collator=collate,
        )

    return make_trainer


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_gives_nearly_the_losses_of_fp32(make_trainer, precision):
    whole = make_trainer()
    whole.train()
    half = make_trainer(**{precision: True})
    kinds = []

    def remember(module, inputs, output):
        kinds.append({name: value.dtype for name, value in output.items()})

    half.model.objective.register_forward_hook(remember)
    half.train()
    assert next(half.teacher.parameters()).dtype == half.args.resolved_teacher_dtype()
    assert next(half.teacher.parameters()).dtype != torch.float32
    assert len(kinds) == 4
    assert all(set(kind.values()) == {torch.float32} for kind in kinds)
    for step in range(4):
        expected, ours = whole.state.log_history[step], half.state.log_history[step]
        for name in TERMS:
            assert ours[name] == pytest.approx(expected[name], rel=0.02), (step, name)


def test_a_step_that_overflows_in_fp16_changes_nothing_and_is_counted(make_trainer):
    trainer = make_trainer(fp16=True)
    # Gradients of this size are infinite in fp16; each skipped step halves the scale.
    trainer.accelerator.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**60)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value.cpu(), before[name].cpu()), name
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert [log["skipped_steps"] for log in logs] == [1, 2, 3, 4]


class SyncDebug(TrainerCallback):
    """Lets CUDA say what waits for it, from the second step on: the first one loads and allocates."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_end(self, args, state, control, **kwargs):
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "settings",
    [
        {"optim": "adamw_torch_fused"},
        {"mi_view": "pooled"},
        {"corr_max_samples": 16, "mi_max_samples": 8},  # samples are drawn
        {"warm_start_ratio": 0.5},
        {"fade_ratio": 0.5},
    ],
)
def test_a_step_reads_nothing_from_the_gpu_in_this_package(make_trainer, settings):
    trainer = make_trainer(bf16=True, max_steps=3, logging_steps=100, **settings)
    trainer.add_callback(SyncDebug())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            trainer.train()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = Counter(
        (w.filename, w.lineno) for w in caught if "synchronizing CUDA operation" in str(w.message)
    )
    assert waits  # transformers looks whether a batch has padding, so some are certain
    ours = str(Path(itrd_nlp.__file__).parent)
    assert not [where for where in waits if where[0].startswith(ours)]


@pytest.mark.parametrize("log", [False, True])
def test_the_losses_and_their_gradients_are_those_of_the_cpu_in_float64(log):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 700, 96, dtype=torch.float64)
    student = teacher + student
    mask = torch.rand(3, 700) > 0.1

    def values(device, dtype):
        z = student.to(device, dtype).requires_grad_()
        t, valid = teacher.to(device, dtype), mask.to(device)
        corr = correlation_loss(z, t, mask=valid, per_group=True)
        mi = mutual_information_loss(z, t, mask=valid, log=log, per_group=True)
        (gradient,) = torch.autograd.grad((corr + 100 * mi).sum(), z)
        return corr.detach().cpu().double(), mi.detach().cpu().double(), gradient.cpu().double()

    for ours, exact in zip(
        values("cuda", torch.float32), values("cpu", torch.float64), strict=True
    ):
        assert (ours - exact).norm() <= 1e-4 * exact.norm()
