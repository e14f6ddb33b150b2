"""One step before the first finds parameters without a gradient, and leaves nothing behind."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, Wav2Vec2Config

from itrd_nlp.training.unused_parameters import drops_layers, unused_parameters


class Model(nn.Module):
    """Two of its three layers make the output. It draws random numbers of every kind, and counts in a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.used, self.other, self.frozen = (nn.Linear(3, 3) for _ in range(3))
        self.frozen.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        noise = random.random() + np.random.rand()
        return (self.used(nn.functional.dropout(self.norm(inputs))) + noise).sum()


def test_the_names_are_those_of_trainable_parameters_that_the_loss_does_not_reach() -> None:
    model, inputs = Model(), torch.randn(4, 3)
    assert unused_parameters(model, lambda: model(inputs)) == ["other.weight", "other.bias"]
    assert unused_parameters(model, lambda: model(inputs) + model.other(inputs).sum()) == []


def test_weights_buffers_gradients_and_random_numbers_are_as_before() -> None:
    model, inputs = Model(), torch.randn(4, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    expected = drawn()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    unused_parameters(model, lambda: model(inputs))
    assert drawn() == expected
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_step_that_fails_leaves_nothing_behind_either() -> None:
    model, inputs = Model(), torch.randn(4, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fail() -> Tensor:
        model(inputs).backward()
        raise MemoryError

    with pytest.raises(MemoryError):
        unused_parameters(model, fail)
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("config", "drops"),
    [(BertConfig(), False), (Wav2Vec2Config(), True), (Wav2Vec2Config(layerdrop=0.0), False)],
)
def test_a_configuration_that_leaves_out_layers_at_random_is_known(config, drops) -> None:
    """One step cannot show which layers another one leaves out."""
    assert drops_layers(config) is drops
