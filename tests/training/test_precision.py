import logging

import pytest
import torch

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.training import precision
from itrd_nlp.training.arguments import FineTuningArguments, warn_of_fp32

pytestmark = pytest.mark.skipif(
    torch.accelerator.is_available(), reason="bf16 on a CPU is meant, and there is something better"
)


@pytest.fixture
def products_take(monkeypatch):
    """Let a product in bf16 take this many times as long as one in fp32."""

    def products_take(factor):
        seconds = {torch.bfloat16: factor * 1e-3, torch.float32: 1e-3}
        monkeypatch.setattr(precision, "_seconds", seconds.__getitem__)
        precision.slow_bf16_factor.cache_clear()
        warn_of_fp32.cache_clear()

    yield products_take
    precision.slow_bf16_factor.cache_clear()


def test_this_cpu_is_measured_and_gives_the_same_answer_again():
    factor = precision.slow_bf16_factor()
    assert factor is None or factor > precision.SLOW
    assert precision.slow_bf16_factor() is factor


@pytest.mark.parametrize("arguments", [FineTuningArguments, ITRDTrainingArguments])
def test_where_bf16_is_slow_training_is_in_fp32_and_says_so(
    tmp_path, products_take, caplog, arguments
):
    products_take(50)
    with caplog.at_level(logging.WARNING, logger="itrd_nlp"):
        args, _ = (arguments(output_dir=str(tmp_path), bf16=True) for _ in range(2))
    assert (args.bf16, args.mixed_precision) == (False, "no")
    (record,) = caplog.records
    assert "50 times slower than in fp32; training in fp32" in record.getMessage()


def test_its_teacher_is_in_fp32_too(tmp_path, products_take):
    products_take(50)
    args = ITRDTrainingArguments(output_dir=str(tmp_path), bf16=True)
    assert args.resolved_teacher_dtype() == torch.float32


@pytest.mark.parametrize(("factor", "more"), [(0.2, {}), (2, {}), (50, {"emulate_bf16": True})])
def test_bf16_stays_where_it_is_no_loss_or_asked_for(tmp_path, products_take, caplog, factor, more):
    products_take(factor)
    args = FineTuningArguments(output_dir=str(tmp_path), bf16=True, **more)
    assert (args.bf16, args.mixed_precision) == (True, "bf16")
    assert not caplog.records


def test_nothing_is_measured_where_nobody_asks_for_bf16(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda _: pytest.fail("measured"))
    precision.slow_bf16_factor.cache_clear()
    FineTuningArguments(output_dir=str(tmp_path))
