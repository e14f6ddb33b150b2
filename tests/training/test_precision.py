"""bf16 is kept where the CPU has instructions for it. The CPU is asked, and nothing is measured."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.training import arguments as arguments_module
from itrd_nlp.training import resuming
from itrd_nlp.training.arguments import FineTuningArguments, warn_of_fp32
from itrd_nlp.training.identity import IDENTITY_NAME
from itrd_nlp.training.precision import cpu_has_bf16
from itrd_nlp.training.trainer import BaseTrainer

pytestmark = pytest.mark.skipif(
    torch.accelerator.is_available(), reason="bf16 on a CPU is meant, and there is something better"
)


@pytest.fixture
def cpu(monkeypatch):
    """Let this CPU have instructions for bf16, or none."""

    def cpu(*, bf16):
        monkeypatch.setattr(arguments_module, "cpu_has_bf16", lambda: bf16)
        warn_of_fp32.cache_clear()

    return cpu


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux tells what a CPU has")
def test_the_answer_is_that_of_the_kernel() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    named = "avx512_bf16" if platform.machine() == "x86_64" else "bf16"
    assert cpu_has_bf16() == (named in flags)


def test_nothing_is_measured_so_that_a_busy_machine_cannot_change_the_answer(monkeypatch) -> None:
    def refuse(*_):
        pytest.fail("a clock was read, or matrices were multiplied")

    monkeypatch.setattr("time.perf_counter", refuse)
    monkeypatch.setattr(torch.Tensor, "__matmul__", refuse)
    cpu_has_bf16()


def test_processes_that_start_apart_answer_alike() -> None:
    code = "from itrd_nlp.training.precision import cpu_has_bf16; print(cpu_has_bf16())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert {process.communicate()[0].strip() for process in processes} == {str(cpu_has_bf16())}


@pytest.mark.parametrize("arguments", [FineTuningArguments, ITRDTrainingArguments])
def test_where_bf16_is_slow_training_is_in_fp32_and_says_so(
    tmp_path, cpu, caplog, arguments
) -> None:
    cpu(bf16=False)
    with caplog.at_level(logging.WARNING, logger="itrd_nlp"):
        args, _ = (arguments(output_dir=str(tmp_path), bf16=True) for _ in range(2))
    assert (args.bf16, args.mixed_precision) == (False, "no")
    (record,) = caplog.records
    assert "has no instructions for it; training in fp32" in record.getMessage()


def test_its_teacher_is_in_fp32_too(tmp_path, cpu) -> None:
    cpu(bf16=False)
    args = ITRDTrainingArguments(output_dir=str(tmp_path), bf16=True)
    assert args.resolved_teacher_dtype() == torch.float32


@pytest.mark.parametrize(("bf16", "more"), [(True, {}), (False, {"emulate_bf16": True})])
def test_bf16_stays_where_it_is_no_loss_or_asked_for(tmp_path, cpu, caplog, bf16, more) -> None:
    cpu(bf16=bf16)
    args = FineTuningArguments(output_dir=str(tmp_path), bf16=True, **more)
    assert (args.bf16, args.mixed_precision) == (True, "bf16")
    assert not caplog.records


def test_nobody_is_asked_where_bf16_is_not_wanted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(arguments_module, "cpu_has_bf16", lambda: pytest.fail("asked"))
    FineTuningArguments(output_dir=str(tmp_path))


# ---- the run ----


@pytest.fixture
def make_trainer(tmp_path, make_bert, make_rows, collate):
    def make_trainer(**kwargs):
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 2,
            "save_strategy": "steps",
            "save_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
        }
        return BaseTrainer(
            model=make_bert(2, seed=1),
            args=FineTuningArguments(**(defaults | kwargs)),
            train_dataset=datasets.Dataset.from_list(make_rows(8)),
            data_collator=collate,
        )

    return make_trainer


def test_a_run_is_not_resumed_in_another_precision(make_trainer, cpu, tmp_path) -> None:
    """As on a machine whose CPU has no instructions for bf16."""
    cpu(bf16=True)
    make_trainer(bf16=True).train()
    path = tmp_path / "run" / "checkpoint-2" / IDENTITY_NAME
    assert json.loads(path.read_text())["precision"] == "bf16"
    cpu(bf16=False)
    with pytest.raises(UserError, match="run: precision is 'fp32' now and was 'bf16'"):
        make_trainer(bf16=True).train(resume_from_checkpoint=True)
    trainer = make_trainer(bf16=True, emulate_bf16=True)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.precision == "bf16"


def test_processes_of_different_precisions_do_not_train_together(make_trainer, monkeypatch) -> None:
    monkeypatch.setattr(resuming, "gather_object", lambda own: [*own, "bf16"])
    with pytest.raises(UserError, match=r"in different precisions \(fp32, bf16\)"):
        make_trainer().train()


@pytest.mark.parametrize("named", ["bf16", "fp16"])
def test_the_precision_of_the_launcher_is_that_of_the_arguments(
    tmp_path, monkeypatch, cpu, named
) -> None:
    """accelerate launch hands it on by the environment, where transformers alone would read it."""
    cpu(bf16=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", named)
    args = ITRDTrainingArguments(str(tmp_path))
    assert (args.bf16, args.fp16) == (named == "bf16", named == "fp16")
    assert args.resolved_teacher_dtype() == {"bf16": torch.bfloat16, "fp16": torch.float16}[named]


def test_an_argument_comes_before_the_launcher(tmp_path, monkeypatch, cpu) -> None:
    cpu(bf16=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    args = FineTuningArguments(str(tmp_path), bf16=True)
    assert (args.bf16, args.fp16, args.mixed_precision) == (True, False, "bf16")


def test_the_launcher_gets_fp32_where_bf16_is_slow(tmp_path, monkeypatch, cpu, caplog) -> None:
    cpu(bf16=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    args = FineTuningArguments(str(tmp_path))
    assert (args.bf16, args.mixed_precision) == (False, "no")
    assert "training in fp32" in caplog.text


def test_the_cpu_of_the_launcher_is_taken_beside_a_gpu(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert not FineTuningArguments(str(tmp_path)).use_cpu
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert FineTuningArguments(str(tmp_path)).use_cpu
