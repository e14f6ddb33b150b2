"""The losses between vectors, against sentence-transformers' own and their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer import losses as theirs
from torch import Tensor, nn
from torch.nn import functional as F

from itrd_nlp.errors import UserError
from itrd_nlp.losses.embeddings import (
    SCALE,
    cosine_label_loss,
    cosine_loss,
    in_batch_loss,
    similarity_kd_loss,
    vector_mse_loss,
)


def vectors(seed: int, width: int = 8) -> Tensor:
    return F.normalize(torch.randn(6, width, generator=torch.Generator().manual_seed(seed)), dim=1)


class Given(nn.Module):
    """A SentenceTransformer whose vectors are those of the batch."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features


def batch(*parts: Tensor) -> list[dict[str, Tensor]]:
    return [{"sentence_embedding": part} for part in parts]


def test_the_vector_mse_is_that_of_sentence_transformers_and_a_part_of_the_cosine_loss() -> None:
    ours, other = vectors(0), vectors(1)
    expected = theirs.MSELoss(Given())(batch(ours), other)  # type: ignore[arg-type]
    assert float(vector_mse_loss(ours, other)) == pytest.approx(float(expected))
    cosine = F.cosine_similarity(ours, other).mean()
    assert float(cosine_loss(ours, other)) == pytest.approx(1 - float(cosine))
    assert float(cosine_loss(ours, other)) == pytest.approx(8 / 2 * float(expected), rel=1e-5)


def test_the_in_batch_loss_is_that_of_sentence_transformers() -> None:
    queries, passages = vectors(0), vectors(1)
    loss = theirs.MultipleNegativesRankingLoss(Given())  # type: ignore[arg-type]
    expected = loss(batch(queries, passages), None)  # type: ignore[arg-type]
    found = in_batch_loss(queries, passages, torch.arange(6.0))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_passage_of_two_queries_is_no_negative_of_either() -> None:
    queries, passages = vectors(0), vectors(1)
    passages[3] = passages[0]
    numbers = torch.tensor([0.0, 1, 2, 0, 4, 5])
    scores = SCALE * queries @ passages.T
    losses = []
    for i in range(6):
        others = [j for j in range(6) if j == i or numbers[j] != numbers[i]]
        losses.append(float(scores[i, others].logsumexp(0) - scores[i, i]))
    assert float(in_batch_loss(queries, passages, numbers)) == pytest.approx(sum(losses) / 6)


def test_the_label_loss_is_that_of_sentence_transformers() -> None:
    first, second, labels = vectors(0), vectors(1), torch.linspace(-1, 1, 6)
    loss = theirs.CosineSimilarityLoss(Given())  # type: ignore[arg-type]
    expected = loss(batch(first, second), labels)  # type: ignore[arg-type]
    assert float(cosine_label_loss(first, second, labels)) == pytest.approx(float(expected))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_similarity_loss_is_the_divergence_over_all_other_texts(temperature: float) -> None:
    ours, other = vectors(0), vectors(1, width=5)
    total = 0.0
    for i in range(6):
        rest = [j for j in range(6) if j != i]
        p, q = (
            (SCALE * z[i] @ z[rest].T / temperature).double().softmax(0).tolist()
            for z in (other, ours)
        )
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = similarity_kd_loss(ours, other, temperature=temperature)
    assert float(found) == pytest.approx(total / 6 * temperature**2, rel=1e-4)


@pytest.mark.parametrize("loss", [cosine_loss, vector_mse_loss])
def test_vectors_of_two_widths_are_refused_where_numbers_are_compared(loss: Any) -> None:
    with pytest.raises(UserError, match=r"\(6, 8\) and of the teacher \(6, 5\).*similarities"):
        loss(vectors(0), vectors(1, width=5))


def test_a_single_text_has_no_others_and_the_loss_0() -> None:
    one = vectors(0)[:1].requires_grad_()
    loss = similarity_kd_loss(one, vectors(1)[:1])
    loss.backward()
    assert float(loss) == 0 and one.grad is not None and one.grad.isfinite().all()


def test_similarities_are_those_of_float32_under_autocast() -> None:
    queries, passages = (F.normalize(torch.randn(32, 16), dim=-1) for _ in range(2))
    numbers = torch.arange(32)
    expected = similarity_kd_loss(queries, passages), in_batch_loss(queries, passages, numbers)
    with torch.autocast("cpu", torch.bfloat16):
        found = similarity_kd_loss(queries, passages), in_batch_loss(queries, passages, numbers)
    assert found == expected
