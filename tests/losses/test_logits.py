"""KD of logits against torch's own KL divergence and TextBrewer's cross entropy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from itrd_nlp.errors import UserError
from itrd_nlp.losses import (
    bernoulli_kd_loss,
    kd_loss,
    mean_bernoulli,
    mean_prediction,
    span_kd_loss,
    value_kd_loss,
)

NAN, INF = float("nan"), float("inf")


def logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def gradient(loss: Tensor, x: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(loss, x)
    return grad


# -- the formula


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_equals_torchs_kl_divergence_times_temperature_squared(temperature: float) -> None:
    student, teacher = logits(10, 4).requires_grad_(), logits(10, 4, seed=1)
    expected = temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, -1),
        F.softmax(teacher / temperature, -1),
        reduction="batchmean",
    )
    actual = kd_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(actual, student), gradient(expected, student))


def test_equals_the_sum_over_classes_written_out() -> None:
    student, teacher = [0.3, -1.0, 2.0], [1.0, 0.0, 0.5]
    p = [math.exp(x / 2) / sum(math.exp(y / 2) for y in teacher) for x in teacher]
    q = [math.exp(x / 2) / sum(math.exp(y / 2) for y in student) for x in student]
    expected = 4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    actual = kd_loss(
        torch.tensor(student).double(), torch.tensor(teacher).double(), temperature=2.0
    )
    assert actual.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_is_that_of_textbrewers_cross_entropy_times_temperature_squared(
    temperature: float,
) -> None:
    losses = pytest.importorskip("textbrewer.losses")
    student, teacher = logits(10, 4).requires_grad_(), logits(10, 4, seed=1)
    # The cross entropy differs from the divergence by the teacher's entropy, a constant.
    expected = temperature**2 * losses.kd_ce_loss(student, teacher, temperature)
    actual = kd_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(gradient(actual, student), gradient(expected, student))


def test_gradient_is_the_numerical_one() -> None:
    student, teacher = logits(3, 4).requires_grad_(), logits(3, 4, seed=1)
    mask = torch.tensor([[1, 1, 0, 1]])
    assert torch.autograd.gradcheck(
        lambda s: kd_loss(s, teacher, temperature=2.0, class_mask=mask), (student,)
    )


def test_is_zero_without_gradient_for_equal_logits() -> None:
    student = logits(10, 4, dtype=torch.float32).requires_grad_()
    loss = kd_loss(student, student.detach() + 5, temperature=2.0)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient(loss, student).abs().max() < 1e-6


def test_all_leading_dimensions_are_averaged() -> None:
    student, teacher = logits(2, 3, 4), logits(2, 3, 4, seed=1)
    expected = kd_loss(student.flatten(0, 1), teacher.flatten(0, 1))
    torch.testing.assert_close(kd_loss(student, teacher), expected)


def test_teacher_gets_no_gradient_and_may_come_from_inference_mode() -> None:
    student, teacher = logits(3, 4).requires_grad_(), logits(3, 4, seed=1).requires_grad_()
    kd_loss(student, teacher).backward()
    assert teacher.grad is None
    with torch.inference_mode():
        inference_teacher = teacher.detach() * 1
    grad = gradient(kd_loss(student, inference_teacher), student)
    torch.testing.assert_close(grad, student.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher = logits(10, 400, dtype=dtype), logits(10, 400, seed=1, dtype=dtype)
    expected = kd_loss(student.double(), teacher.double())
    actual = kd_loss(student, teacher)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(kd_loss(student, teacher), actual)


# -- masks


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e4])
def test_masked_classes_are_not_in_the_softmax(
    garbage: float, dtype: torch.dtype, temperature: float
) -> None:
    student, teacher = logits(5, 4, dtype=dtype), logits(5, 4, seed=1, dtype=dtype)
    short = student.clone().requires_grad_()
    expected = kd_loss(short, teacher, temperature=temperature)
    padding = torch.full((5, 3), garbage, dtype=dtype)
    padded = torch.cat([student, padding], 1).requires_grad_()
    mask = torch.arange(7) < 4
    actual = kd_loss(
        padded, torch.cat([teacher, padding], 1), temperature=temperature, class_mask=mask
    )
    torch.testing.assert_close(actual, expected)
    grad = gradient(actual, padded)
    torch.testing.assert_close(grad[:, :4], gradient(expected, short))
    assert not grad[:, 4:].any()


@pytest.mark.parametrize("garbage", [NAN, INF, -INF])
def test_masked_rows_do_not_count(garbage: float) -> None:
    student, teacher = logits(6, 4), logits(6, 4, seed=1)
    mask = torch.tensor([1, 0, 1, 1, 0, 1])
    short = student[mask > 0].clone().requires_grad_()
    expected = kd_loss(short, teacher[mask > 0])
    student[mask == 0], teacher[mask == 0] = garbage, garbage
    student.requires_grad_()
    actual = kd_loss(student, teacher, sample_mask=mask)
    torch.testing.assert_close(actual, expected)
    grad = gradient(actual, student)
    torch.testing.assert_close(grad[mask > 0], gradient(expected, short))
    assert not grad[mask == 0].any()


def test_both_masks_together() -> None:
    student, teacher = logits(2, 3, 5), logits(2, 3, 5, seed=1)
    classes, rows = torch.tensor([1, 1, 0, 1, 0]), torch.tensor([[1, 0, 1], [0, 0, 1]])
    chosen = (student[rows > 0][:, classes > 0], teacher[rows > 0][:, classes > 0])
    actual = kd_loss(student, teacher, class_mask=classes, sample_mask=rows)
    torch.testing.assert_close(actual, kd_loss(*chosen))


def test_no_row_at_all_gives_zero_without_gradient() -> None:
    student = logits(3, 4).requires_grad_()
    loss = kd_loss(student, logits(3, 4, seed=1), sample_mask=torch.zeros(3))
    assert loss == 0
    assert not gradient(loss, student).any()


def test_a_row_without_classes_is_finite() -> None:
    student = logits(2, 4).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    loss = kd_loss(student, logits(2, 4, seed=1), class_mask=mask)
    assert loss.isfinite()
    assert not gradient(loss, student)[1].any()


def test_masks_need_no_value_on_the_host() -> None:
    # Fake tensors have shapes only: reading a value or selecting by a mask raises.
    with FakeTensorMode():
        student = torch.randn(6, 3, requires_grad=True)
        masks = {"class_mask": torch.ones(3), "sample_mask": torch.ones(6)}
        kd_loss(student, torch.randn(6, 3), **masks, num_items=torch.tensor(6)).backward()
    assert student.grad.shape == (6, 3)


# -- gradient accumulation


@pytest.mark.parametrize("as_tensor", [False, True])
def test_losses_of_micro_batches_add_up_with_num_items(as_tensor: bool) -> None:
    student, teacher = logits(10, 4), logits(10, 4, seed=1)
    mask = torch.tensor([1, 1, 0, 1, 1, 1, 1, 0, 1, 1])
    num_items = mask.sum() if as_tensor else int(mask.sum())
    parts = [
        kd_loss(student[rows], teacher[rows], sample_mask=mask[rows], num_items=num_items)
        for rows in (slice(0, 3), slice(3, 10))
    ]
    torch.testing.assert_close(sum(parts), kd_loss(student, teacher, sample_mask=mask))
    spans = [
        span_kd_loss(*[x[rows] for x in (student, teacher)] * 2, num_items=10)
        for rows in (slice(0, 3), slice(3, 10))
    ]
    torch.testing.assert_close(sum(spans), span_kd_loss(student, teacher, student, teacher))


# -- span heads


def test_span_loss_is_the_mean_of_start_and_end_over_valid_positions() -> None:
    start, end = logits(3, 8), logits(3, 8, seed=1)
    teacher_start, teacher_end = logits(3, 8, seed=2), logits(3, 8, seed=3)
    lengths = [8, 5, 2]
    mask = torch.tensor([[j < n for j in range(8)] for n in lengths])
    expected = 0.0
    for student, teacher in ((start, teacher_start), (end, teacher_end)):
        for i, n in enumerate(lengths):
            log_q = F.log_softmax(student[i, :n] / 2, -1)
            p = F.softmax(teacher[i, :n] / 2, -1)
            expected += 4 * F.kl_div(log_q, p, reduction="sum").item() / 3 / 2
    start[~mask], teacher_end[~mask] = -INF, NAN
    actual = span_kd_loss(start, end, teacher_start, teacher_end, temperature=2.0, mask=mask)
    assert actual.item() == pytest.approx(expected, abs=1e-12)


def test_span_loss_without_padding() -> None:
    x = [logits(3, 8, seed=i) for i in range(4)]
    torch.testing.assert_close(
        span_kd_loss(*x), span_kd_loss(*x, mask=torch.ones(3, 8, dtype=torch.bool))
    )


# -- bad input


@pytest.mark.parametrize("temperature", [0, -2.0, NAN, INF])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(UserError, match=rf"temperature is {temperature}.*above 0"):
        kd_loss(logits(2, 3), logits(2, 3), temperature=temperature)
    with pytest.raises(UserError, match="temperature"):
        span_kd_loss(*[logits(2, 3)] * 4, temperature=temperature)


def test_num_items_must_be_positive() -> None:
    with pytest.raises(UserError, match=r"num_items is 0.*at least 1"):
        kd_loss(logits(2, 3), logits(2, 3), num_items=0)


def test_shapes_must_fit() -> None:
    with pytest.raises(UserError, match=r"\(2, 3\).*\(2, 4\)"):
        kd_loss(logits(2, 3), logits(2, 4))
    with pytest.raises(UserError, match=r"class_mask has shape \(2,\).*\(2, 3\)"):
        kd_loss(logits(2, 3), logits(2, 3), class_mask=torch.ones(2))
    with pytest.raises(UserError, match=r"class_mask has shape \(5, 2, 3\)"):
        kd_loss(logits(2, 3), logits(2, 3), class_mask=torch.ones(5, 2, 3))
    with pytest.raises(UserError, match=r"sample_mask has shape \(3,\).*\(2,\)"):
        kd_loss(logits(2, 3), logits(2, 3), sample_mask=torch.ones(3))
    with pytest.raises(UserError, match=r"\(2, 3, 1\).*\(batch, length\)"):
        span_kd_loss(*[logits(2, 3, 1)] * 4)
    with pytest.raises(UserError, match=r"mask has shape \(3,\).*\(2, 3\)"):
        span_kd_loss(*[logits(2, 3)] * 4, mask=torch.ones(3))


# -- several teachers


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_mean_prediction_is_the_mean_of_the_probabilities(temperature: float) -> None:
    models = [logits(6, 5, seed=seed) for seed in range(3)]
    found = mean_prediction(models, temperature=temperature)
    expected = sum(F.softmax(one / temperature, -1) for one in models) / 3
    torch.testing.assert_close(F.softmax(found / temperature, -1), expected)


def test_one_model_alone_says_what_it_says() -> None:
    student, teacher = logits(6, 5), logits(6, 5, seed=1)
    found = kd_loss(student, mean_prediction([teacher], temperature=2.0), temperature=2.0)
    torch.testing.assert_close(found, kd_loss(student, teacher, temperature=2.0))


@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e30])
def test_what_stands_at_padding_does_not_reach_the_mean(garbage: float) -> None:
    student, models = logits(4, 6), [logits(4, 6, seed=seed) for seed in (1, 2)]
    mask = torch.arange(6).expand(4, 6) < torch.tensor([[6], [5], [3], [1]])
    padded = [torch.where(mask, one, garbage) for one in models]
    target = mean_prediction(padded, temperature=2.0, class_mask=mask)
    found = kd_loss(student, target, temperature=2.0, class_mask=mask)
    rows = []
    for row, length in enumerate((6, 5, 3, 1)):
        p = sum(F.softmax(one[row, :length] / 2, -1) for one in models) / 2
        q = F.log_softmax(student[row, :length] / 2, -1)
        rows.append(4 * (p * (p.log() - q)).sum())
    torch.testing.assert_close(found, torch.stack(rows).mean())


def test_the_mean_of_half_precision_is_taken_in_float32() -> None:
    found = mean_prediction([logits(2, 3).bfloat16(), logits(2, 3, seed=1).bfloat16()])
    assert found.dtype == torch.float32 and not found.requires_grad


# ---- labels that may hold together, and numbers ----


def test_independent_labels_have_the_mean_divergence_of_their_bernoullis():
    student = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    teacher = 3 * torch.randn(5, 4, dtype=torch.float64)
    p, q = (torch.distributions.Bernoulli(logits=x / 2.0) for x in (teacher, student))
    expected = 4.0 * torch.distributions.kl_divergence(p, q).mean()
    found = bernoulli_kd_loss(student, teacher, temperature=2.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(found, student, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, student)
    torch.testing.assert_close(gradient, wanted)


def test_independent_labels_far_apart_cost_much_where_a_softmax_sees_nothing():
    student, teacher = torch.full((2, 3), 5.0), torch.full((2, 3), -5.0)
    assert kd_loss(student, teacher).item() == 0
    assert bernoulli_kd_loss(student, teacher).item() > 4


@pytest.mark.parametrize("logit", [0.0, 1e4, -1e4])
def test_independent_labels_are_finite_for_any_logit(logit):
    student = torch.full((2, 3), -logit, requires_grad=True)
    loss = bernoulli_kd_loss(student, torch.full((2, 3), logit))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_numbers_have_the_mean_squared_difference():
    student, teacher = torch.tensor([[1.0], [4.0]]), torch.tensor([[3.0], [4.5]])
    assert value_kd_loss(student, teacher).item() == pytest.approx((4 + 0.25) / 2)


@pytest.mark.parametrize("loss", [bernoulli_kd_loss, value_kd_loss])
def test_rows_that_do_not_count_change_neither_loss_nor_gradient(loss):
    student = torch.randn(2, 3, 2, requires_grad=True)
    teacher = torch.randn(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    found = loss(student, teacher, sample_mask=mask)
    expected = loss(student[mask.bool()], teacher[mask.bool()])
    assert found.item() == pytest.approx(expected.item())
    (gradient,) = torch.autograd.grad(found, student)
    assert (gradient[~mask.bool()] == 0).all()
    assert loss(student, teacher, sample_mask=torch.zeros(2, 3)).item() == 0


@pytest.mark.parametrize("loss", [bernoulli_kd_loss, value_kd_loss])
def test_logits_of_another_shape_are_refused(loss):
    with pytest.raises(UserError, match=r"student logits .* and teacher logits .* must have one"):
        loss(torch.zeros(2, 3), torch.zeros(2, 4))


def test_the_mean_of_independent_labels_is_that_of_their_probabilities():
    one, other = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    mean = mean_bernoulli([one, other], temperature=2.0)
    expected = ((one / 2).sigmoid() + (other / 2).sigmoid()) / 2
    torch.testing.assert_close((mean / 2).sigmoid(), expected)


@pytest.mark.parametrize("loss", [kd_loss, bernoulli_kd_loss, value_kd_loss])
def test_the_loss_of_no_rows_is_0(loss) -> None:
    empty = torch.zeros(0, 3)
    assert loss(empty, empty).item() == 0.0
