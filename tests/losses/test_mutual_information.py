"""The mutual information loss against eqs. 7 to 9 and algorithm 1 written out, and its memory."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from itrd_nlp.errors import UserError
from itrd_nlp.losses import (
    MutualInformationLoss,
    gram_matrix,
    joint_entropy,
    matrix_entropy,
    mutual_information,
    mutual_information_loss,
)


def pair(
    *shape: int, d_t: int | None = None, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    *samples, d_s = shape
    teacher = torch.randn(*samples, d_t or d_s, generator=generator, dtype=torch.float64)
    student = torch.randn(*samples, d_s, generator=generator, dtype=torch.float64) + 0.3
    return student.to(dtype), teacher.to(dtype)


def formula(student: np.ndarray, teacher: np.ndarray, log: bool) -> float:
    """Algorithm 1, lines 25 to 34, or eq. 9, one pair of samples at a time."""
    n = len(student)
    z_s = [row / math.sqrt(sum(row * row)) for row in student]
    z_t = [row / math.sqrt(sum(row * row)) for row in teacher]
    g_s = np.array([[sum(z_s[i] * z_s[j]) for j in range(n)] for i in range(n)])
    g_t = np.array([[sum(z_t[i] * z_t[j]) for j in range(n)] for i in range(n)])
    g_st = g_s * g_t
    g_s, g_st = g_s / np.trace(g_s), g_st / np.trace(g_st)
    norm_s, norm_st = (g_s**2).sum(), (g_st**2).sum()
    return math.log2(norm_s) - math.log2(norm_st) if log else norm_s - norm_st


def algorithm_1(z_s: Tensor, z_t: Tensor, log: bool = False) -> Tensor:
    """The same in torch, for gradients."""
    z_s, z_t = nn.functional.normalize(z_s, p=2), nn.functional.normalize(z_t, p=2)
    g_s, g_t = z_s @ z_s.T, z_t @ z_t.T
    g_st = g_s * g_t
    p_s = (g_s / torch.trace(g_s)).pow(2).sum()
    p_st = (g_st / torch.trace(g_st)).pow(2).sum()
    return p_s.log2() - p_st.log2() if log else p_s - p_st


def value_and_grad(student: Tensor, teacher: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    loss = mutual_information_loss(student, teacher, **options)
    (grad,) = torch.autograd.grad(loss, student)
    return loss.detach(), grad


both_forms = pytest.mark.parametrize("log", [False, True])


# -- the formulas


@both_forms
@pytest.mark.parametrize(("n", "d"), [(12, 5), (5, 12), (1, 4), (2, 1)])
def test_equals_the_paper_in_float64(n: int, d: int, log: bool) -> None:
    student, teacher = pair(n, d)
    expected = formula(student.numpy(), teacher.numpy(), log)
    actual = mutual_information_loss(student, teacher, log=log).item()
    assert actual == pytest.approx(expected, abs=1e-12)


@both_forms
def test_equals_algorithm_1_in_float32(log: bool) -> None:
    student, teacher = pair(64, 128, dtype=torch.float32)
    loss, grad = value_and_grad(student, teacher, log=log)
    reference = student.clone().requires_grad_()
    expected = algorithm_1(reference, teacher, log)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, reference.grad, rtol=1e-4, atol=1e-6)


def test_log_form_is_minus_the_mutual_information_without_the_teachers_entropy() -> None:
    student, teacher = pair(20, 8)
    g_s, g_t = gram_matrix(student), gram_matrix(teacher)
    loss = mutual_information_loss(student, teacher, log=True)
    eq_7 = joint_entropy(g_s, g_t, 2) - matrix_entropy(g_s, 2)
    torch.testing.assert_close(loss, eq_7, rtol=0, atol=1e-12)
    minus_information = matrix_entropy(g_t, 2) - mutual_information(g_s, g_t, 2)
    torch.testing.assert_close(loss, minus_information, rtol=0, atol=1e-12)


@both_forms
def test_is_smaller_for_a_student_that_shares_the_teachers_similarities(log: bool) -> None:
    student, teacher = pair(64, 16)
    alike = mutual_information_loss(teacher, teacher, log=log)
    assert alike < mutual_information_loss(student, teacher, log=log)


@both_forms
@pytest.mark.parametrize("block_size", [2, 100])
def test_gradient_is_the_numerical_one(log: bool, block_size: int) -> None:
    student, teacher = pair(5, 3)
    mask = torch.tensor([1, 1, 0, 1, 1])
    for m in (None, mask):
        assert torch.autograd.gradcheck(
            lambda s, m=m: mutual_information_loss(
                s, teacher, log=log, mask=m, block_size=block_size
            ),
            (student.requires_grad_(),),
            atol=1e-8,
        )
    grouped, grouped_teacher = pair(2, 4, 3)
    assert torch.autograd.gradcheck(
        lambda s: mutual_information_loss(s, grouped_teacher, log=log, block_size=block_size),
        (grouped.requires_grad_(),),
        atol=1e-8,
    )


@both_forms
def test_gradient_is_that_of_plain_autograd(log: bool) -> None:
    student, teacher = pair(30, 7, d_t=11)
    _, grad = value_and_grad(student, teacher, log=log, block_size=8)
    reference = student.clone().requires_grad_()
    algorithm_1(reference, teacher, log).backward()
    torch.testing.assert_close(grad, reference.grad, rtol=1e-10, atol=1e-14)


def test_teacher_gets_no_gradient_and_may_come_from_inference_mode() -> None:
    student, teacher = pair(5, 3)
    expected = value_and_grad(student, teacher)[1]
    mutual_information_loss(student.clone().requires_grad_(), teacher.requires_grad_()).backward()
    assert teacher.grad is None
    with torch.inference_mode():
        inference_teacher = teacher.detach() * 1
    torch.testing.assert_close(value_and_grad(student, inference_teacher)[1], expected)


# -- blocks


@both_forms
@pytest.mark.parametrize("block_size", [1, 7, 16, 37, 100])
@pytest.mark.parametrize("shape", [(37, 5), (9, 4, 5), (2, 37, 5)])
def test_blocks_change_nothing(shape: tuple[int, ...], block_size: int, log: bool) -> None:
    student, teacher = pair(*shape)
    expected = value_and_grad(student, teacher, log=log, block_size=10_000)
    actual = value_and_grad(student, teacher, log=log, block_size=block_size)
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-14)


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements of any tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.numel())
        return out


def largest_tensor(*shape: int, log: bool, block_size: int) -> int:
    student, teacher = pair(*shape, dtype=torch.float32)
    student.requires_grad_()
    with LargestTensor() as largest:
        loss = mutual_information_loss(student, teacher, log=log, block_size=block_size)
        loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    return largest.elements


@both_forms
def test_no_tensor_is_larger_than_the_features_or_a_block(log: bool) -> None:
    assert largest_tensor(2048, 16, log=log, block_size=128) == 2048 * 16
    assert largest_tensor(2048, 4, log=log, block_size=128) == 128 * 128
    assert largest_tensor(8, 512, log=log, block_size=128) == 8 * 512


@both_forms
def test_groups_share_the_memory_of_one_block(log: bool) -> None:
    assert largest_tensor(64, 100, 4, log=log, block_size=250) <= 250 * 250
    assert largest_tensor(3, 600, 4, log=log, block_size=100) <= 100 * 100


def test_the_record_of_tensor_sizes_sees_an_n_by_n_matrix() -> None:
    student, teacher = pair(256, 4)
    with LargestTensor() as largest:
        algorithm_1(student, teacher)
    assert largest.elements == 256 * 256


@pytest.mark.slow
@both_forms
def test_8192_samples_of_768_need_no_more_than_their_own_size(log: bool) -> None:
    assert largest_tensor(8192, 768, log=log, block_size=512) == 8192 * 768


class Products(TorchDispatchMode):
    """Counts the products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.baddbmm_)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("device", "count"), [("cpu", 6 * 3), ("meta", 3)])
def test_away_from_a_cpu_six_layer_pairs_are_multiplied_at_once(
    device: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # autocast knows no meta device.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    student, teacher = (x.to(device) for x in pair(6, 512, 16))
    with Products() as products:
        mutual_information_loss(student.requires_grad_(), teacher, per_group=True)
    assert products.count == count


# -- what it does not depend on


@both_forms
def test_does_not_change_when_rows_are_scaled_or_all_are_rotated(log: bool) -> None:
    student, teacher = pair(20, 6)
    generator = torch.Generator().manual_seed(1)
    scale = torch.rand(20, 1, generator=generator, dtype=torch.float64) * 100 + 0.01
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    expected = mutual_information_loss(student, teacher, log=log)
    for s, t in (
        (student * scale, teacher),
        (student, teacher * scale),
        (student @ rotation, teacher),
        (student, teacher @ rotation),
    ):
        torch.testing.assert_close(mutual_information_loss(s, t, log=log), expected)


@both_forms
def test_autocast_changes_nothing(log: bool) -> None:
    student, teacher = pair(40, 16, dtype=torch.float32)
    expected, expected_grad = value_and_grad(student, teacher, log=log)
    student.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mutual_information_loss(student, teacher, log=log)
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=0)
    torch.testing.assert_close(student.grad, expected_grad, rtol=0, atol=0)


# -- padding and groups


@both_forms
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_masked_rows_change_neither_value_nor_gradient(
    garbage: float, dtype: torch.dtype, log: bool
) -> None:
    student, teacher = pair(20, 5, dtype=dtype)
    expected, expected_grad = value_and_grad(student, teacher, log=log)
    padding = torch.full((100, 5), garbage, dtype=dtype)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    padded = [torch.cat([x, padding])[order] for x in (student, teacher)]
    mask = (torch.arange(120) < 20)[order]
    loss, grad = value_and_grad(*padded, mask=mask, log=log, block_size=32)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad[order.argsort()][:20], expected_grad)
    assert not grad[~mask].any()


@both_forms
def test_rows_of_zeros_count_neither_in_the_trace_nor_in_the_norm(log: bool) -> None:
    student, teacher = pair(10, 4)
    zeros = torch.zeros(5, 4, dtype=torch.float64)
    loss, grad = value_and_grad(torch.cat([student, zeros]), torch.cat([teacher, zeros]), log=log)
    expected, expected_grad = value_and_grad(student, teacher, log=log)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad[:10], expected_grad)
    assert not grad[10:].any()


@both_forms
def test_groups_have_their_own_gram_matrices_and_are_averaged(log: bool) -> None:
    student, teacher = pair(4, 12, 5)
    mask = torch.ones(4, 12)
    mask[0, 7:] = 0
    mask[2] = 0  # no sample: does not count in the mean
    losses = [
        mutual_information_loss(student[i][mask[i] > 0], teacher[i][mask[i] > 0], log=log)
        for i in (0, 1, 3)
    ]
    actual = mutual_information_loss(student, teacher, mask=mask, log=log)
    torch.testing.assert_close(actual, torch.stack(losses).mean())


@both_forms
@pytest.mark.parametrize("rows", [0, 4])
def test_no_sample_at_all_gives_zero_without_gradient(rows: int, log: bool) -> None:
    student, teacher = pair(rows, 3)
    loss, grad = value_and_grad(student, teacher, mask=torch.zeros(rows), log=log)
    assert loss == 0
    assert not grad.any()


@both_forms
def test_mask_needs_no_value_on_the_host(log: bool) -> None:
    # Fake tensors have shapes only: reading a value or selecting by a mask raises.
    with FakeTensorMode():
        student = torch.randn(6, 3, requires_grad=True)
        mutual_information_loss(student, torch.randn(6, 3), mask=torch.ones(6), log=log).backward()
    assert student.grad.shape == (6, 3)


# -- edges


@both_forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_value_and_gradient_are_finite(dtype: torch.dtype, log: bool) -> None:
    student, teacher = pair(16, 4, dtype=torch.float32)
    zero_row = student.clone()
    zero_row[3] = 0
    cases = {
        "one sample": (student[:1], teacher[:1]),
        "two samples": (student[:2], teacher[:2]),
        "constant features": (student[:1].expand(16, 4), teacher),
        "constant rows": (student[:, :1].expand(16, 4), teacher[:, :1].expand(16, 4)),
        "identical": (teacher, teacher),
        "a row of zeros": (zero_row, teacher),
        "zeros": (torch.zeros(16, 4), teacher),
        "zeros of the teacher": (student, torch.zeros(16, 4)),
        "orthogonal rows": (torch.eye(4), torch.eye(4)),
        "tiny": (student * 1e-4, teacher * 1e-4),
        "huge": (student * 1e4, teacher * 1e4),
    }
    for name, (s, t) in cases.items():
        loss, grad = value_and_grad(s.to(dtype), t.to(dtype), log=log)
        assert loss.dtype == torch.float32
        assert loss.isfinite(), name
        assert grad.dtype == dtype
        assert grad.isfinite().all(), name


@both_forms
def test_magnitude_does_not_matter_in_float32(log: bool) -> None:
    student, teacher = pair(64, 16)
    expected = mutual_information_loss(student, teacher, log=log)
    for scale in (1e-4, 1e4):
        actual = mutual_information_loss(
            (student * scale).float(), (teacher * scale).float(), log=log
        )
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6)


# -- the module


def test_module_projects_where_the_widths_differ() -> None:
    module = MutualInformationLoss(3, 5, log=True)
    student, teacher = pair(20, 3, d_t=5, dtype=torch.float32)
    mask = torch.arange(20) < 15
    projected = student @ module.projection.weight.T + module.projection.bias
    expected = mutual_information_loss(projected, teacher, mask=mask, log=True)
    torch.testing.assert_close(module(student, teacher, mask), expected)


def test_module_has_no_weights_where_the_widths_are_equal() -> None:
    module = MutualInformationLoss(4, 4)
    assert not list(module.parameters())
    student, teacher = pair(20, 4, dtype=torch.float32)
    torch.testing.assert_close(module(student, teacher), mutual_information_loss(student, teacher))


def test_module_shares_a_projection() -> None:
    shared = nn.Linear(4, 4)
    module = MutualInformationLoss(4, 4, projection=shared)
    student, teacher = pair(20, 4, dtype=torch.float32)
    loss = module(student, teacher)
    torch.testing.assert_close(loss, mutual_information_loss(shared(student), teacher))
    loss.backward()
    assert shared.weight.grad is not None


def test_module_keeps_garbage_in_masked_rows_from_its_weights() -> None:
    module = MutualInformationLoss(3, 5)
    student, teacher = pair(20, 3, d_t=5, dtype=torch.float32)
    student[15:] = float("nan")
    module(student, teacher, torch.arange(20) < 15).backward()
    assert module.projection.weight.grad.isfinite().all()


# -- bad input


@pytest.mark.parametrize("block_size", [0, -3])
def test_block_size_must_be_positive(block_size: int) -> None:
    student, teacher = pair(4, 3)
    with pytest.raises(UserError, match=rf"block_size is {block_size}.*at least 1"):
        mutual_information_loss(student, teacher, block_size=block_size)
    with pytest.raises(UserError, match="block_size"):
        MutualInformationLoss(3, 3, block_size=block_size)


def test_student_and_teacher_must_hold_the_same_samples() -> None:
    with pytest.raises(UserError, match=r"\(4, 3\).*\(5, 3\).*same samples"):
        mutual_information_loss(torch.ones(4, 3), torch.ones(5, 3))
    with pytest.raises(UserError, match=r"mask has shape \(3,\).*\(4,\)"):
        mutual_information_loss(torch.ones(4, 3), torch.ones(4, 3), mask=torch.ones(3))
    with pytest.raises(UserError, match=r"\(4,\).*\(n, d\) or \(g, n, d\)"):
        mutual_information_loss(torch.ones(4), torch.ones(4))


@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_in_a_sample_that_counts_shows_in_the_loss(side, value):
    features = {"student": torch.randn(8, 4), "teacher": torch.randn(8, 4)}
    features[side][3, 2] = value
    assert not mutual_information_loss(**features).isfinite()
