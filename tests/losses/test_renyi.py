"""Entropies against closed forms and definitions that need no eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.losses import gram_matrix, joint_entropy, matrix_entropy, mutual_information

ORDERS = [0.1, 0.5, 0.99, 1.0, 1.01, 2.0, 5.0, 100.0]


def samples(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def rotated(eigenvalues: list[float]) -> Tensor:
    """A matrix with these eigenvalues that is not diagonal."""
    q, _ = torch.linalg.qr(samples(len(eigenvalues), len(eigenvalues)))
    return q @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ q.T


# -- Gram matrices


def test_gram_matrix_holds_cosines_over_the_trace() -> None:
    z = samples(6, 3)
    gram = gram_matrix(z)
    for i in range(6):
        for j in range(6):
            cosine = torch.dot(z[i], z[j]) / (z[i].norm() * z[j].norm())
            assert gram[i, j].item() == pytest.approx(cosine.item() / 6, abs=1e-14)
    assert gram.trace().item() == pytest.approx(1)


def test_masked_rows_are_rows_of_zeros() -> None:
    z = samples(6, 3)
    z[4:] = float("nan")
    gram = gram_matrix(z, torch.tensor([1, 1, 1, 1, 0, 0]))
    torch.testing.assert_close(gram[:4, :4], gram_matrix(z[:4]))
    assert not gram[4:].any()
    assert not gram[:, 4:].any()
    torch.testing.assert_close(matrix_entropy(gram, 0.5), matrix_entropy(gram_matrix(z[:4]), 0.5))


def test_gram_matrices_of_groups() -> None:
    z = samples(8, 3).view(2, 4, 3)
    torch.testing.assert_close(gram_matrix(z)[1], gram_matrix(z[1]))
    entropies = matrix_entropy(gram_matrix(z), 2.0)
    torch.testing.assert_close(entropies[1], matrix_entropy(gram_matrix(z[1]), 2.0))


def test_gram_matrix_does_not_follow_autocast() -> None:
    z = samples(8, 5).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gram = gram_matrix(z)
    torch.testing.assert_close(gram, gram_matrix(z), rtol=0, atol=0)


# -- entropy (eq. 3)


@pytest.mark.parametrize("alpha", ORDERS)
def test_entropy_of_equal_eigenvalues_is_log2_n(alpha: float) -> None:
    entropy = matrix_entropy(torch.eye(8, dtype=torch.float64) / 8, alpha)
    assert entropy.item() == pytest.approx(3, abs=1e-12)


@pytest.mark.parametrize("alpha", ORDERS)
def test_entropy_of_equal_samples_is_zero(alpha: float) -> None:
    gram = gram_matrix(samples(1, 4).expand(8, 4))
    assert matrix_entropy(gram, alpha).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("alpha", ORDERS)
def test_entropy_is_that_of_the_eigenvalues(alpha: float) -> None:
    eigenvalues = [0.5, 0.3, 0.15, 0.05]
    if alpha == 1:
        expected = -sum(x * math.log2(x) for x in eigenvalues)
    else:
        expected = math.log2(sum(x**alpha for x in eigenvalues)) / (1 - alpha)
    assert matrix_entropy(rotated(eigenvalues), alpha).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 2.0])
def test_zero_eigenvalues_do_not_count(alpha: float) -> None:
    full, padded = rotated([0.7, 0.3]), rotated([0.7, 0.3] + [0.0] * 30)
    torch.testing.assert_close(matrix_entropy(padded, alpha), matrix_entropy(full, alpha))


def test_order_2_is_the_frobenius_norm() -> None:
    gram = gram_matrix(samples(20, 6))
    expected = -math.log2((gram**2).sum().item())
    assert matrix_entropy(gram, 2).item() == pytest.approx(expected, abs=1e-12)


def test_order_3_is_the_trace_of_the_cube() -> None:
    gram = gram_matrix(samples(20, 6))
    expected = -0.5 * math.log2((gram @ gram @ gram).trace().item())
    assert matrix_entropy(gram, 3).item() == pytest.approx(expected, abs=1e-12)


def test_order_1_is_the_limit() -> None:
    gram = gram_matrix(samples(20, 6))
    von_neumann = matrix_entropy(gram, 1).item()
    assert matrix_entropy(gram, 1 - 1e-6).item() == pytest.approx(von_neumann, abs=1e-5)
    assert matrix_entropy(gram, 1 + 1e-6).item() == pytest.approx(von_neumann, abs=1e-5)


def test_entropy_falls_with_the_order() -> None:
    gram = gram_matrix(samples(20, 6))
    entropies = [matrix_entropy(gram, alpha).item() for alpha in ORDERS]
    assert entropies == sorted(entropies, reverse=True)


def test_entropy_does_not_depend_on_the_trace() -> None:
    gram = gram_matrix(samples(20, 6))
    torch.testing.assert_close(matrix_entropy(7 * gram, 1.5), matrix_entropy(gram, 1.5))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_entropy_of_no_samples_is_zero(alpha: float) -> None:
    assert matrix_entropy(torch.zeros(3, 3), alpha) == 0


# -- joint entropy (eq. 4) and mutual information (eq. 5)


@pytest.mark.parametrize("alpha", ORDERS)
def test_joint_entropy_is_that_of_the_normalised_product(alpha: float) -> None:
    a, b = gram_matrix(samples(12, 4)), gram_matrix(samples(12, 4, seed=1))
    product = torch.tensor(
        [[(a[i, j] * b[i, j]).item() for j in range(12)] for i in range(12)], dtype=torch.float64
    )
    expected = matrix_entropy(product / product.trace(), alpha)
    torch.testing.assert_close(joint_entropy(a, b, alpha), expected)


@pytest.mark.parametrize("alpha", ORDERS)
def test_mutual_information_is_the_sum_of_the_entropies_without_the_joint(alpha: float) -> None:
    a, b = gram_matrix(samples(12, 4)), gram_matrix(samples(12, 4, seed=1))
    expected = matrix_entropy(a, alpha) + matrix_entropy(b, alpha) - joint_entropy(a, b, alpha)
    torch.testing.assert_close(mutual_information(a, b, alpha), expected)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_nothing_is_learnt_from_equal_samples_and_all_from_a_copy(alpha: float) -> None:
    a = gram_matrix(samples(12, 4))
    constant = gram_matrix(torch.ones(12, 4, dtype=torch.float64))
    assert mutual_information(a, constant, alpha).item() == pytest.approx(0, abs=1e-12)
    clusters = gram_matrix(torch.eye(4, dtype=torch.float64).repeat(3, 1))
    information = mutual_information(clusters, clusters, alpha)
    torch.testing.assert_close(information, matrix_entropy(clusters, alpha))


def test_entropy_has_a_gradient() -> None:
    z = samples(5, 6).requires_grad_()
    for alpha in (0.5, 1.0, 2.0):
        assert torch.autograd.gradcheck(
            lambda z, a=alpha: matrix_entropy(gram_matrix(z), a), (z,), atol=1e-7
        )


# -- bad input


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
def test_order_must_be_positive(alpha: float) -> None:
    with pytest.raises(UserError, match=rf"alpha is {alpha}.*above 0"):
        matrix_entropy(torch.eye(3), alpha)


def test_matrices_must_be_square_and_alike() -> None:
    with pytest.raises(UserError, match=r"\(3, 4\).*square"):
        matrix_entropy(torch.ones(3, 4), 2)
    with pytest.raises(UserError, match=r"\(3,\).*square"):
        matrix_entropy(torch.ones(3), 2)
    with pytest.raises(UserError, match=r"\(3, 3\) and \(1, 1\)"):
        joint_entropy(torch.eye(3), torch.eye(1), 2)
    with pytest.raises(UserError, match=r"\(3,\).*\(n, d\)"):
        gram_matrix(torch.ones(3))
    with pytest.raises(UserError, match=r"mask has shape \(2,\)"):
        gram_matrix(torch.ones(3, 4), torch.ones(2))
