"""Mixed precision on a GPU: bf16, and fp16 with the gradient scaler."""

from __future__ import annotations

import datasets
import pytest
import torch

from itrd_nlp.trainer import ITRDTrainer
from itrd_nlp.training_args import ITRDTrainingArguments

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
]
TERMS = ("task", "kd", "corr", "mi")


@pytest.fixture
def make_trainer(tmp_path, monkeypatch, make_bert, make_rows, collate):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # of several GPUs, too, take one

    def make_trainer(**kwargs):
        args = ITRDTrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            max_steps=4,
            learning_rate=1e-2,
            optim="sgd",
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            mi_max_samples=512,
            **kwargs,
        )
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
