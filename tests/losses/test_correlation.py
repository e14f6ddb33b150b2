"""The correlation loss against eq. 6 written out, and at the edges of its inputs."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from itrd_nlp.errors import UserError
from itrd_nlp.losses import CorrelationLoss, correlation_loss, feature_correlations
from itrd_nlp.losses.correlation import LOG_FLOOR


def pair(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated student and teacher features with a mean far from 0 in some features."""
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(*shape, generator=generator, dtype=torch.float64)
    student = 0.6 * teacher + torch.randn(*shape, generator=generator, dtype=torch.float64)
    student = student * torch.linspace(0.5, 3, shape[-1]) - torch.linspace(0, 10, shape[-1])
    return student.to(dtype), teacher.to(dtype)


def formula(student: np.ndarray, teacher: np.ndarray, alpha: float, ddof: int = 0) -> float:
    """Eq. 6, one feature at a time."""
    total = 0.0
    for s, t in zip(student.T, teacher.T, strict=True):
        s_norm = (s - s.mean()) / s.std(ddof=ddof)
        t_norm = (t - t.mean()) / t.std(ddof=ddof)
        v = sum(a * b for a, b in zip(s_norm, t_norm, strict=True)) / len(s)
        total += abs(v - 1) ** (2 * alpha)
    return math.log2(total)


def algorithm_1(z_s: Tensor, z_t: Tensor, alpha: float) -> Tensor:
    """Lines 15 to 21 of algorithm 1, with the normalised representations in line 18."""
    n = z_s.shape[0]
    z_s_norm = (z_s - z_s.mean(0)) / z_s.std(0)
    z_t_norm = (z_t - z_t.mean(0)) / z_t.std(0)
    v = torch.einsum("bx,bx->x", z_s_norm, z_t_norm) / n
    dist = torch.pow(v - torch.ones_like(v), 2)
    return torch.log2(torch.pow(dist, alpha).sum())


def value_and_grad(student: Tensor, teacher: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    loss = correlation_loss(student, teacher, **options)
    (grad,) = torch.autograd.grad(loss, student)
    return loss.detach(), grad


# -- the formula


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.01, 1.5, 3.0])
def test_equals_equation_6_in_float64(alpha: float) -> None:
    student, teacher = pair(50, 7)
    expected = formula(student.numpy(), teacher.numpy(), alpha)
    assert correlation_loss(student, teacher, alpha=alpha).item() == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize("alpha", [0.5, 1.01, 1.5])
def test_without_the_logarithm_it_is_the_sum_of_equation_6(alpha: float) -> None:
    student, teacher = pair(50, 7)
    expected = 2 ** formula(student.numpy(), teacher.numpy(), alpha)
    loss, grad = value_and_grad(student, teacher, alpha=alpha, log=False)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    _, of_logarithm = value_and_grad(student, teacher, alpha=alpha)
    torch.testing.assert_close(grad, of_logarithm * expected * math.log(2))
    assert correlation_loss(teacher, teacher, alpha=alpha, log=False) == pytest.approx(0, abs=1e-12)


def test_takes_population_statistics_by_default_and_the_official_ones_if_unbiased() -> None:
    student, teacher = pair(9, 4)
    biased = correlation_loss(student, teacher).item()
    assert biased == pytest.approx(formula(student.numpy(), teacher.numpy(), 1.01), abs=1e-12)
    unbiased = correlation_loss(student, teacher, unbiased=True).item()
    expected = formula(student.numpy(), teacher.numpy(), 1.01, ddof=1)
    assert unbiased == pytest.approx(expected, abs=1e-12)
    assert abs(biased - unbiased) > 1e-2


@pytest.mark.parametrize("alpha", [1.01, 1.5])
def test_unbiased_gives_the_values_and_gradients_of_algorithm_1_in_float32(alpha: float) -> None:
    student, teacher = pair(64, 128, dtype=torch.float32)
    loss, grad = value_and_grad(student, teacher, alpha=alpha, unbiased=True)
    reference = student.clone().requires_grad_()
    expected = algorithm_1(reference, teacher, alpha)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, reference.grad, rtol=1e-4, atol=1e-7)


def test_correlations_are_those_of_numpy() -> None:
    student, teacher = pair(40, 6)
    expected = [
        np.corrcoef(s, t)[0, 1] for s, t in zip(student.numpy().T, teacher.numpy().T, strict=True)
    ]
    np.testing.assert_allclose(feature_correlations(student, teacher), expected, atol=1e-13)


def test_gradient_is_the_numerical_one() -> None:
    student, teacher = pair(6, 3)
    student.requires_grad_()
    mask = torch.tensor([1, 1, 0, 1, 1, 1])
    for options in ({}, {"mask": mask}, {"unbiased": True}, {"alpha": 0.7}):
        assert torch.autograd.gradcheck(
            lambda s, o=options: correlation_loss(s, teacher, **o), (student,), atol=1e-8
        )
    grouped, grouped_teacher = pair(2, 4, 3)
    assert torch.autograd.gradcheck(
        lambda s: correlation_loss(s, grouped_teacher), (grouped.requires_grad_(),), atol=1e-8
    )


def test_gradient_is_that_of_plain_autograd_over_many_row_blocks() -> None:
    student, teacher = pair(3000, 200)  # more rows than one block of temporaries holds
    _, grad = value_and_grad(student, teacher, unbiased=True)
    reference = student.clone().requires_grad_()
    algorithm_1(reference, teacher, 1.01).backward()
    torch.testing.assert_close(grad, reference.grad, rtol=1e-9, atol=1e-15)


def test_teacher_gets_no_gradient() -> None:
    student, teacher = pair(5, 3)
    teacher.requires_grad_()
    loss = correlation_loss(student.requires_grad_(), teacher)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_teacher_may_come_from_inference_mode() -> None:
    student, teacher = pair(5, 3)
    with torch.inference_mode():
        inference_teacher = teacher * 1
    _, grad = value_and_grad(student, inference_teacher)
    torch.testing.assert_close(grad, value_and_grad(student, teacher)[1])


# -- what it does not depend on


def test_does_not_change_when_features_are_shifted_and_scaled() -> None:
    student, teacher = pair(50, 4)
    scale, shift = torch.tensor([0.1, 1.0, 7.0, 300.0]), torch.tensor([-5.0, 0.0, 1.0, 40.0])
    expected = correlation_loss(student, teacher)
    torch.testing.assert_close(correlation_loss(student * scale + shift, teacher), expected)
    torch.testing.assert_close(correlation_loss(student, teacher * scale + shift), expected)


def test_changes_when_a_feature_is_negated() -> None:
    student, teacher = pair(50, 4)
    sign = torch.tensor([1, 1, 1, -1])
    assert correlation_loss(student * sign, teacher) > correlation_loss(student, teacher)


def test_keeps_its_precision_where_means_are_large_against_the_spread() -> None:
    student, teacher = pair(4096, 16)
    student = (student - student.mean(0)) / student.std(0) * 0.5 - 10
    teacher = teacher * 0.5 + 100
    expected = feature_correlations(student, teacher)
    actual = feature_correlations(student.float(), teacher.float())
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=2e-6)


# -- padding


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_masked_rows_change_neither_value_nor_gradient(garbage: float, dtype: torch.dtype) -> None:
    student, teacher = pair(20, 5, dtype=dtype)
    expected, expected_grad = value_and_grad(student, teacher)
    padding = torch.full((100, 5), garbage, dtype=dtype)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    padded = [torch.cat([x, padding])[order] for x in (student, teacher)]
    mask = (torch.arange(120) < 20)[order]
    loss, grad = value_and_grad(*padded, mask=mask)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad[order.argsort()][:20], expected_grad)
    assert not grad[~mask].any()


def test_mask_may_be_bool_or_numbers() -> None:
    student, teacher = pair(6, 3)
    mask = torch.tensor([True, True, False, True, True, False])
    expected = correlation_loss(student[mask], teacher[mask])
    for form in (mask, mask.long(), mask.float()):
        torch.testing.assert_close(correlation_loss(student, teacher, mask=form), expected)


@pytest.mark.parametrize("rows", [0, 4])
def test_no_sample_at_all_gives_zero_without_gradient(rows: int) -> None:
    student, teacher = pair(rows, 3)
    loss, grad = value_and_grad(student, teacher, mask=torch.zeros(rows))
    assert loss == 0
    assert not grad.any()


def test_mask_needs_no_value_on_the_host() -> None:
    # Fake tensors have shapes only: reading a value or selecting by a mask raises.
    with FakeTensorMode():
        student = torch.randn(6, 3, requires_grad=True)
        loss = correlation_loss(student, torch.randn(6, 3), mask=torch.ones(6), reduce=torch.clone)
        loss.backward()
    assert student.grad.shape == (6, 3)


# -- memory


class LargestFloat32(TorchDispatchMode):
    """Records the largest number of elements of any float32 tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.dtype == torch.float32:
            self.elements = max(self.elements, out.numel())
        return out


def test_makes_no_float32_copy_of_features_in_bfloat16() -> None:
    student, teacher = pair(4096, 256, dtype=torch.bfloat16)
    student.requires_grad_()
    with LargestFloat32() as largest:
        correlation_loss(student, teacher, mask=torch.ones(4096)).backward()
    assert largest.elements <= 4096 * 256 // 4


# -- groups


def test_groups_have_their_own_statistics_and_are_averaged() -> None:
    student, teacher = pair(4, 12, 5)
    mask = torch.ones(4, 12)
    mask[0, 7:] = 0
    mask[2] = 0  # no sample: does not count in the mean
    losses = [correlation_loss(student[i][mask[i] > 0], teacher[i][mask[i] > 0]) for i in (0, 1, 3)]
    actual = correlation_loss(student, teacher, mask=mask)
    torch.testing.assert_close(actual, torch.stack(losses).mean())
    assert feature_correlations(student, teacher, mask=mask).shape == (4, 5)


def test_the_loss_of_each_group_is_there_for_the_asking() -> None:
    student, teacher = pair(3, 12, 5)
    mask = torch.ones(3, 12)
    mask[1] = 0
    actual = correlation_loss(student, teacher, mask=mask, per_group=True)
    expected = [correlation_loss(student[i], teacher[i]) for i in (0, 2)]
    torch.testing.assert_close(
        actual, torch.stack([expected[0], torch.zeros_like(expected[0]), expected[1]])
    )
    assert correlation_loss(student[0], teacher[0], per_group=True).shape == (1,)


# -- edges


def edge_cases() -> list[tuple[str, Tensor, Tensor]]:
    student, teacher = pair(16, 4, dtype=torch.float32)
    constant, constant_teacher = student.clone(), teacher.clone()
    constant[:, 1], constant[:, 2] = 1234.567, 0
    constant_teacher[:, 0], constant_teacher[:, 1] = -0.1, 7e3
    return [
        ("one sample", student[:1], teacher[:1]),
        ("two samples", student[:2], teacher[:2]),
        ("constant features", constant, constant_teacher),
        ("all constant", torch.ones(16, 4), torch.ones(16, 4)),
        ("zeros", torch.zeros(16, 4), torch.zeros(16, 4)),
        ("equal rows", student[:1].expand(16, 4), teacher),
        ("identical", teacher, teacher),
        ("identical but for scale", 3 * teacher, teacher),
        ("opposite", -teacher, teacher),
        ("tiny", student * 1e-4, teacher * 1e-4),
        ("huge", student * 1e4, teacher * 1e4),
        ("tiny against huge", student * 1e-4, teacher * 1e4),
    ]


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.01, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("unbiased", [False, True])
def test_value_and_gradient_are_finite(alpha: float, dtype: torch.dtype, unbiased: bool) -> None:
    for name, student, teacher in edge_cases():
        if dtype == torch.float16:  # 65504 is its largest number
            student, teacher = student.clamp(-6e4, 6e4), teacher.clamp(-6e4, 6e4)
        student, teacher = student.to(dtype), teacher.to(dtype)
        loss, grad = value_and_grad(student, teacher, alpha=alpha, unbiased=unbiased)
        assert loss.dtype == torch.float32
        assert loss.isfinite(), name
        assert grad.dtype == dtype
        assert grad.isfinite().all(), name


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_small_and_large_features_are_standardised_exactly(scale: float) -> None:
    student, teacher = pair(256, 8)
    student = (student - student.mean(0)) / student.std(0)
    expected = feature_correlations(student, teacher)
    actual = feature_correlations((student * scale).float(), (teacher * scale).float())
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)


def test_constant_features_count_as_uncorrelated_and_get_no_gradient() -> None:
    student, teacher = pair(4096, 3, dtype=torch.float32)
    student[:, 1] = 1234.567  # not a number of float32, so its mean is not exact either
    teacher[:, 2] = -0.1
    v = feature_correlations(student, teacher)
    assert v[1] == 0
    assert v[2] == 0
    _, grad = value_and_grad(student, teacher)
    assert grad[:, 0].any()
    assert not grad[:, 1:].any()


def test_one_sample_has_the_loss_of_uncorrelated_features() -> None:
    student, teacher = pair(1, 8)
    assert correlation_loss(student, teacher).item() == 3  # log2(8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_perfect_match_is_exactly_one_and_stops_at_the_floor(dtype: torch.dtype) -> None:
    student, _ = pair(512, 16, dtype=dtype)
    assert (feature_correlations(student, student) == 1).all()
    loss, grad = value_and_grad(student, student)
    assert loss.item() == pytest.approx(math.log2(LOG_FLOOR), rel=1e-6)
    assert not grad.any()
    unbiased = feature_correlations(student, student, unbiased=True)
    torch.testing.assert_close(unbiased, torch.full_like(unbiased, 511 / 512))


def test_gradient_leads_to_the_teacher() -> None:
    student, teacher = pair(64, 8, dtype=torch.float32)
    student = student.requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    before = feature_correlations(student, teacher).min()
    for _ in range(200):
        optimizer.zero_grad()
        correlation_loss(student, teacher).backward()
        optimizer.step()
    assert before < 0.9
    assert feature_correlations(student, teacher).min() > 0.999


# -- statistics over processes


class Processes:
    """Two "processes", one thread each, that sum a tensor and, going back, its gradient."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)
        self.slots: list[Tensor] = [torch.empty(0), torch.empty(0)]
        self.shapes: list[list[torch.Size]] = [[], []]

    def sum(self, rank: int, x: Tensor) -> Tensor:
        self.slots[rank] = x.detach().clone()
        self.barrier.wait(60)
        total = self.slots[0] + self.slots[1]
        self.barrier.wait(60)
        return total

    def reduce(self, rank: int, x: Tensor) -> Tensor:
        processes = self
        self.shapes[rank].append(x.shape)

        class AllReduce(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return processes.sum(rank, x)

            @staticmethod
            def backward(ctx: Any, grad: Tensor) -> Tensor:
                return processes.sum(rank, grad)

        return AllReduce.apply(x)

    def run(self, parts: list[dict[str, Tensor]], **options: Any) -> list[tuple[Tensor, Tensor]]:
        results: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * 2

        def work(rank: int) -> None:
            results[rank] = value_and_grad(
                **parts[rank], **options, reduce=lambda x: self.reduce(rank, x)
            )

        threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        return results


@pytest.mark.parametrize("unbiased", [False, True])
def test_two_processes_give_the_loss_and_gradient_of_the_whole_batch(unbiased: bool) -> None:
    student, teacher = pair(30, 6)
    student[:12] += 3  # so that the means of the parts differ
    mask = torch.rand(30, generator=torch.Generator().manual_seed(0)) < 0.7
    expected, expected_grad = value_and_grad(student, teacher, mask=mask, unbiased=unbiased)
    processes = Processes()
    parts = [
        {"student": student[rows], "teacher": teacher[rows], "mask": mask[rows]}
        for rows in (slice(0, 12), slice(12, 30))
    ]
    results = processes.run(parts, unbiased=unbiased)
    for loss, _ in results:
        torch.testing.assert_close(loss, expected)
    # Each process has the same loss, so the summed gradients are twice that of one of them: DDP
    # divides by the number of processes.
    grads = torch.cat([grad for _, grad in results]) / 2
    torch.testing.assert_close(grads, expected_grad)
    assert processes.shapes[0] == [(1, 13), (3, 1, 6)]  # sums and count, then moments: no samples


def test_groups_of_two_processes_are_summed_group_by_group_and_exchanged_together() -> None:
    student, teacher = pair(3, 20, 6)
    expected, expected_grad = value_and_grad(student, teacher)
    processes = Processes()
    parts = [
        {"student": student[:, rows], "teacher": teacher[:, rows]}
        for rows in (slice(0, 5), slice(5, 20))
    ]
    results = processes.run(parts)
    for loss, _ in results:
        torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.cat([grad for _, grad in results], dim=1) / 2, expected_grad)
    assert processes.shapes[0] == [(3, 13), (3, 3, 6)]


def test_a_process_with_nothing_but_padding_is_fine() -> None:
    student, teacher = pair(10, 4)
    expected, expected_grad = value_and_grad(student, teacher)
    nothing = torch.full((5, 4), float("nan"), dtype=torch.float64)
    parts = [
        {"student": student, "teacher": teacher, "mask": torch.ones(10)},
        {"student": nothing, "teacher": nothing, "mask": torch.zeros(5)},
    ]
    (loss, grad), (other_loss, other_grad) = Processes().run(parts)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(other_loss, expected)
    torch.testing.assert_close(grad / 2, expected_grad)
    assert not other_grad.any()


# -- the module


def test_module_is_the_projection_and_the_function() -> None:
    module = CorrelationLoss(3, 5, alpha=1.5, unbiased=True)
    student, _ = pair(20, 3, dtype=torch.float32)
    _, teacher = pair(20, 5, dtype=torch.float32)
    mask = torch.arange(20) < 15
    expected = correlation_loss(
        student @ module.projection.weight.T + module.projection.bias,
        teacher,
        alpha=1.5,
        unbiased=True,
        mask=mask,
    )
    torch.testing.assert_close(module(student, teacher, mask), expected)


def test_module_starts_as_the_identity_for_equal_widths_unless_told_otherwise() -> None:
    student, teacher = pair(20, 4, dtype=torch.float32)
    module = CorrelationLoss(4, 4)
    torch.testing.assert_close(module(student, teacher), correlation_loss(student, teacher))
    assert not torch.equal(CorrelationLoss(4, 4, init="default").projection.weight, torch.eye(4))


def test_module_keeps_garbage_in_masked_rows_from_its_weights() -> None:
    module = CorrelationLoss(3, 5)
    student, _ = pair(20, 3, dtype=torch.float32)
    _, teacher = pair(20, 5, dtype=torch.float32)
    module(student, teacher).backward()
    expected = module.projection.weight.grad.clone()
    module.zero_grad()
    garbage = torch.full((7, 3), float("nan"))
    mask = torch.arange(27) < 20
    module(torch.cat([student, garbage]), torch.cat([teacher, torch.ones(7, 5)]), mask).backward()
    torch.testing.assert_close(module.projection.weight.grad, expected)


def test_module_projects_under_autocast_and_takes_statistics_in_float32() -> None:
    module = CorrelationLoss(8, 8, init="default")
    student, teacher = pair(200, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module(student, teacher)
        projected = module.projection(student)
    assert projected.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, correlation_loss(projected, teacher), rtol=0, atol=0)


# -- bad input


@pytest.mark.parametrize("alpha", [0, -1.5, float("nan"), float("inf")])
def test_alpha_must_be_positive(alpha: float) -> None:
    student, teacher = pair(4, 3)
    with pytest.raises(UserError, match=rf"alpha is {alpha}.*above 0"):
        correlation_loss(student, teacher, alpha=alpha)
    with pytest.raises(UserError, match="alpha"):
        CorrelationLoss(3, 3, alpha=alpha)


@pytest.mark.parametrize(
    ("student", "teacher", "mask", "message"),
    [
        ((4,), (4,), None, r"student features have shape \(4,\).*\(n, d\) or \(g, n, d\)"),
        ((1, 2, 3, 4), (1, 2, 3, 4), None, r"\(1, 2, 3, 4\)"),
        ((4, 3), (5, 3), None, r"\(4, 3\).*\(5, 3\).*same samples"),
        ((4, 3), (1, 4, 3), None, r"teacher features \(1, 4, 3\)"),
        ((4, 3), (4, 5), None, r"\(4, 3\).*\(4, 5\).*width"),
        ((4, 3), (4, 3), (3,), r"mask has shape \(3,\).*\(4,\)"),
        ((4, 3), (4, 3), (4, 1), r"mask has shape \(4, 1\)"),
    ],
)
def test_shapes_must_fit(
    student: tuple[int, ...],
    teacher: tuple[int, ...],
    mask: tuple[int, ...] | None,
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        correlation_loss(
            torch.ones(student),
            torch.ones(teacher),
            mask=None if mask is None else torch.ones(mask),
        )


def test_integers_are_refused() -> None:
    with pytest.raises(UserError, match=r"torch\.int64.*floating point"):
        correlation_loss(torch.ones(4, 3).long(), torch.ones(4, 3))


def test_module_refuses_another_width_than_its_own() -> None:
    with pytest.raises(UserError, match=r"\(4, 2\).*last size of 3"):
        CorrelationLoss(3, 5)(torch.ones(4, 2), torch.ones(4, 5))


@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_in_a_sample_that_counts_shows_in_the_loss(side, value):
    features = {"student": torch.randn(8, 4), "teacher": torch.randn(8, 4)}
    features[side][3, 2] = value
    assert not correlation_loss(**features).isfinite()
