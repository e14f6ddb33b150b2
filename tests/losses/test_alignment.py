"""The alignment loss has its minimum at the teacher, and the mutual information loss of the paper has none there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from itrd_nlp.errors import UserError
from itrd_nlp.losses import alignment_loss, gram_matrix, joint_entropy, matrix_entropy
from itrd_nlp.losses import mutual_information_loss as mi_loss


def samples(n: int = 12, d: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) + 1.0


def formula(student: Tensor, teacher: Tensor, centre: bool) -> Tensor:
    if centre:
        student, teacher = student - student.mean(0), teacher - teacher.mean(0)
    g_s, g_t = gram_matrix(student), gram_matrix(teacher)
    return (g_s.square().sum() * g_t.square().sum() / (g_s * g_t).sum() ** 2).log2()


def gradient(loss: Any, student: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    loss(student).backward()
    assert student.grad is not None
    return student.grad


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize(("n", "d_s", "d_t"), [(12, 5, 7), (4, 5, 7), (6, 9, 3)])
def test_it_is_the_divergence_of_the_gram_matrices(
    n: int, d_s: int, d_t: int, centre: bool
) -> None:
    """With fewer samples than features and with more, which are two ways to compute it."""
    student, teacher = samples(n, d_s), samples(n, d_t, seed=1)
    torch.testing.assert_close(
        alignment_loss(student, teacher, centre=centre), formula(student, teacher, centre)
    )
    ours = gradient(lambda s: alignment_loss(s, teacher, centre=centre), student)
    torch.testing.assert_close(ours, gradient(lambda s: formula(s, teacher, centre), student))


def test_the_teacher_is_its_minimum_whatever_the_rotation_and_the_scale() -> None:
    teacher = samples()
    rotation = torch.linalg.qr(samples(5, 5, seed=3))[0]
    student = 3 * (teacher - teacher.mean(0)) @ rotation
    assert alignment_loss(student, teacher).abs() < 1e-12
    assert gradient(lambda s: alignment_loss(s, teacher), student).abs().max() < 1e-9
    assert alignment_loss(samples(seed=4), teacher) > 0.1


def test_every_group_has_its_own_matrices_and_the_mask_holds() -> None:
    student, teacher = samples(24).view(2, 12, 5), samples(24, seed=1).view(2, 12, 5)
    mask = torch.ones(2, 12)
    mask[1, 8:] = 0
    alone = [
        alignment_loss(student[0], teacher[0]),
        alignment_loss(student[1, :8], teacher[1, :8]),
    ]
    student[1, 8:] = float("nan")
    student.requires_grad_()
    found = alignment_loss(student, teacher, mask=mask, per_group=True)
    torch.testing.assert_close(found, torch.stack(alone))
    found.sum().backward()
    assert student.grad is not None and student.grad.isfinite().all()
    assert not student.grad[1, 8:].any()
    torch.testing.assert_close(alignment_loss(student, teacher, mask=mask), found.mean())


@pytest.mark.parametrize("kept", [0, 1])
def test_one_sample_has_no_similarities(kept: int) -> None:
    mask = torch.zeros(2, 6)
    mask[0, :kept] = 1
    mask[1, :4] = 1
    student, teacher = samples(12).view(2, 6, 5), samples(12, seed=1).view(2, 6, 5)
    none, some = alignment_loss(student, teacher, mask=mask, per_group=True)
    assert none == 0 and some > 0
    assert alignment_loss(student, teacher, mask=mask) == some


@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_sample_that_is_no_number_shows_in_the_loss(who: str, bad: float) -> None:
    """A teacher in fp16 may overflow. A loss of 0 would hide it, while the gradient is NaN."""
    given = {"student": samples(24).view(2, 12, 5), "teacher": samples(24, seed=1).view(2, 12, 5)}
    given[who][1, 0, 0] = bad
    given[who] = given[who].half()
    one, other = alignment_loss(**given, per_group=True)
    assert one > 0 and other.isnan()
    assert alignment_loss(**given).isnan()


def test_it_is_computed_in_float32_under_autocast() -> None:
    student, teacher = samples().bfloat16(), samples(seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = alignment_loss(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, alignment_loss(student.float(), teacher.float()))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="do not hold the same samples"):
        alignment_loss(samples(12), samples(11))


# ---- the mutual information loss of the paper ----


def test_the_mi_loss_is_a_weighted_sum_of_the_students_squared_cosines() -> None:
    student, teacher = samples(), samples(seed=1)
    cos_s, cos_t = (
        nn.functional.normalize(x) @ nn.functional.normalize(x).T for x in (student, teacher)
    )
    expected = (cos_s.square() * (1 - cos_t.square())).mean()
    torch.testing.assert_close(mi_loss(student, teacher), expected)


@pytest.mark.parametrize("log", [False, True])
def test_the_mi_loss_is_smallest_for_samples_at_right_angles_and_not_for_the_teacher(
    log: bool,
) -> None:
    teacher = samples(5, 5)
    apart = torch.eye(5, dtype=torch.float64)
    smallest = mi_loss(apart, teacher, log=log)
    assert smallest.abs() < 1e-12
    assert mi_loss(teacher, teacher, log=log) > smallest + 0.1
    for seed in range(20):
        assert mi_loss(samples(5, 5, seed=seed), teacher, log=log) >= smallest
    assert gradient(lambda s: mi_loss(s, teacher, log=log), teacher).abs().max() > 1e-3


def test_a_student_that_follows_the_mi_loss_leaves_its_teachers_similarities() -> None:
    teacher = samples(32, 16)
    student = teacher.clone().requires_grad_()
    optimizer = torch.optim.SGD([student], lr=20.0)
    losses, alike = [], []
    for _ in range(200):
        loss = mi_loss(student, teacher)
        losses.append(loss.item())
        alike.append(formula(student.detach(), teacher, centre=False).item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert alike[0] == pytest.approx(0, abs=1e-12) and alike[-1] > 0.5


@pytest.mark.parametrize(
    "divergence",
    [
        lambda a, b: 2 * joint_entropy(a, b, 2.0) - matrix_entropy(a, 2.0) - matrix_entropy(b, 2.0),
        lambda a, b: joint_entropy(a, b, 2.0) - matrix_entropy(a, 2.0),
        lambda a, b: joint_entropy(a, b, 2.0) - matrix_entropy(b, 2.0),
    ],
    ids=["variation of information", "of the teacher", "of the student"],
)
def test_no_divergence_made_of_these_entropies_has_its_minimum_at_the_teacher(
    divergence: Any,
) -> None:
    teacher = samples()
    g_t = gram_matrix(teacher)
    assert gradient(lambda s: divergence(gram_matrix(s), g_t), teacher).abs().max() > 1e-3
