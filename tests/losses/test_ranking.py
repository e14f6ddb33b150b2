"""The losses over ranked lists, against their formulas in float64 and against sentence-transformers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from sentence_transformers.cross_encoder import losses as theirs
from torch import Tensor, nn

from itrd_nlp.errors import UserError
from itrd_nlp.losses.ranking import (
    as_lists,
    list_kd_loss,
    list_label_loss,
    margin_mse_loss,
    pair_label_loss,
)

SIZES = (3, 1, 4)
HELD = torch.tensor([[i < size for i in range(4)] for size in SIZES])
STUDENT = torch.tensor([0.3, -1.2, 2.0, 0.7, 1.1, -0.4, 0.0, 0.9])
TEACHER = torch.tensor([1.5, 0.2, -0.6, 3.0, -2.0, 0.8, 0.1, 0.4])
LABELS = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0])


def lists(values: Tensor) -> list[list[float]]:
    """The values of each list."""
    return [part.double().tolist() for part in values.split(SIZES)]


def softmax(values: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


class Scorer(nn.Module):
    """A cross-encoder of sentence-transformers as far as its losses ask: the scores are those that it was given."""

    num_labels, device = 1, torch.device("cpu")

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def preprocess(self, pairs: list[Any], **_: Any) -> dict[str, Tensor]:
        return {"places": torch.tensor([int(passage) for _, passage in pairs])}

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"scores": self.scores[tokens["places"]]}


def test_scores_lie_in_the_rows_of_their_lists() -> None:
    found = as_lists(STUDENT, HELD)
    assert [row[: len(part)] for row, part in zip(found.tolist(), lists(STUDENT), strict=True)] == [
        pytest.approx(part) for part in lists(STUDENT)
    ]
    assert found[~HELD].eq(0).all()
    with pytest.raises(UserError, match=r"scores have the shape \(7,\), but the lists"):
        as_lists(STUDENT[:7], HELD)


def test_each_score_gets_the_gradient_of_its_entry() -> None:
    scores = STUDENT.clone().requires_grad_()
    weights = torch.arange(1.0, HELD.numel() + 1).view(HELD.shape)
    (as_lists(scores, HELD) * weights).sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == weights[HELD].tolist()


def test_no_scores_are_lists_without_entries() -> None:
    empty = torch.zeros(2, 3, dtype=torch.bool)
    assert torch.equal(as_lists(torch.zeros(0), empty), torch.zeros(2, 3))


def test_lists_are_made_without_reading_a_number_from_the_device() -> None:
    """Reading a number from the meta device is impossible, and so is a size that depends on one."""
    scores = STUDENT.to("meta").requires_grad_()
    found = as_lists(scores, HELD.to("meta"))
    assert found.shape == HELD.shape
    found.sum().backward()
    assert scores.grad is not None
    assert scores.grad.shape == STUDENT.shape


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_list_kd_is_the_divergence_of_the_softmax_over_each_list(temperature: float) -> None:
    expected = 0.0
    for ours, other in zip(lists(STUDENT), lists(TEACHER), strict=True):
        p, q = softmax(other, temperature), softmax(ours, temperature)
        expected += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) * temperature**2
    found = list_kd_loss(
        as_lists(STUDENT, HELD), as_lists(TEACHER, HELD), HELD, temperature=temperature
    )
    assert float(found) == pytest.approx(expected / len(SIZES), rel=1e-5)


def test_margin_mse_is_the_squared_difference_of_all_margins_of_a_list() -> None:
    squares = [
        ((ours[i] - ours[j]) - (other[i] - other[j])) ** 2
        for ours, other in zip(lists(STUDENT), lists(TEACHER), strict=True)
        for i, j in itertools.combinations(range(len(ours)), 2)
    ]
    found = margin_mse_loss(as_lists(STUDENT, HELD), as_lists(TEACHER, HELD), HELD)
    assert float(found) == pytest.approx(sum(squares) / len(squares), rel=1e-5)


def test_margin_mse_of_two_passages_is_that_of_sentence_transformers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "sentence_transformers.cross_encoder.losses.margin_mse.CrossEncoder", Scorer
    )
    loss = theirs.MarginMSELoss(Scorer(STUDENT))  # type: ignore[arg-type]
    queries, first, second = ["q"] * 4, ["0", "1", "2", "3"], ["4", "5", "6", "7"]
    expected = loss([queries, first, second], TEACHER[:4] - TEACHER[4:])
    ours = margin_mse_loss(
        torch.stack([STUDENT[:4], STUDENT[4:]], 1),
        torch.stack([TEACHER[:4], TEACHER[4:]], 1),
        torch.ones(4, 2).bool(),
    )
    assert float(ours) == pytest.approx(float(expected), rel=1e-5)


def test_the_list_loss_of_labels_is_their_cross_entropy_divided_by_their_sum() -> None:
    losses = []
    for scores, labels in zip(lists(STUDENT), lists(LABELS), strict=True):
        if sum(labels) > 0:  # the last list has no relevant passage and does not count
            logs = [math.log(p) for p in softmax(scores)]
            losses.append(-sum(a * b for a, b in zip(labels, logs, strict=True)) / sum(labels))
    assert len(losses) == 2
    found = list_label_loss(as_lists(STUDENT, HELD), as_lists(LABELS, HELD), HELD)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_listnet_of_sentence_transformers_has_the_same_divergence_up_to_the_entropy_of_the_teacher() -> (
    None
):
    loss = theirs.ListNetLoss(Scorer(STUDENT))  # type: ignore[arg-type]
    places = torch.arange(len(STUDENT)).split(SIZES)
    cross = loss(
        [["q"] * 3, [[str(int(i)) for i in part] for part in places]],  # type: ignore[list-item]
        list(TEACHER.split(SIZES)),
    )
    entropy = sum(-sum(p * math.log(p) for p in softmax(part)) for part in lists(TEACHER)) / 3
    ours = list_kd_loss(as_lists(STUDENT, HELD), as_lists(TEACHER, HELD), HELD)
    assert float(ours) == pytest.approx(float(cross) - entropy, rel=1e-4)


def test_the_pair_loss_is_the_binary_cross_entropy() -> None:
    labels = LABELS.clamp(max=1)
    p = STUDENT.double().sigmoid()
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    assert float(pair_label_loss(STUDENT, labels)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("loss", [list_kd_loss, margin_mse_loss, list_label_loss])
def test_scores_in_float64_are_not_rounded(loss: Any) -> None:
    scores = as_lists(STUDENT.double(), HELD).requires_grad_()
    others = as_lists(LABELS.double(), HELD)
    assert loss(scores, others, HELD).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: loss(x, others, HELD), (scores,))


def test_the_pair_loss_of_float64_is_not_rounded() -> None:
    scores, labels = STUDENT.double().requires_grad_(), LABELS.double().clamp(max=1)
    assert torch.autograd.gradcheck(lambda x: pair_label_loss(x, labels), (scores,))


@pytest.mark.parametrize("loss", [list_kd_loss, margin_mse_loss, list_label_loss])
def test_scores_in_bfloat16_have_a_loss_in_float32(loss: Any) -> None:
    scores = as_lists(STUDENT.bfloat16(), HELD)
    assert loss(scores, as_lists(LABELS, HELD), HELD).dtype == torch.float32


@pytest.mark.parametrize("loss", [list_kd_loss, margin_mse_loss, list_label_loss])
def test_what_no_list_has_changes_neither_loss_nor_gradient(loss: Any) -> None:
    found = []
    for filler in (0.0, 1e4):
        scores = as_lists(STUDENT, HELD).masked_fill(~HELD, filler).requires_grad_()
        value = loss(scores, as_lists(LABELS, HELD).masked_fill(~HELD, -100.0), HELD)
        value.backward()
        found.append((float(value), scores.grad))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])  # type: ignore[arg-type]
    assert found[0][1].isfinite().all() and found[0][1][~HELD].eq(0).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("loss", [list_kd_loss, margin_mse_loss, list_label_loss])
def test_a_number_that_is_none_shows_in_the_loss(loss: Any) -> None:
    for place in (0, 1):
        given = [as_lists(STUDENT, HELD), as_lists(LABELS, HELD)]
        given[place][0, 0] = float("nan")
        assert loss(*given, HELD).isnan()


@pytest.mark.parametrize("loss", [list_kd_loss, margin_mse_loss, list_label_loss])
def test_lists_that_teach_nothing_have_the_loss_and_the_gradient_0(loss: Any) -> None:
    scores = torch.randn(3, 1, requires_grad=True)
    value = loss(scores, torch.randn(3, 1).abs(), torch.ones(3, 1).bool())
    value.backward()
    assert float(value) == pytest.approx(0.0, abs=1e-6)
    assert scores.grad is not None and scores.grad.abs().max() < 1e-6
