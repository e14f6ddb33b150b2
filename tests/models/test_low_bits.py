"""Weights of few bits: the values, the gradient, the layers that have them, and their size."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from itrd_nlp.errors import UserError
from itrd_nlp.models.low_bits import (
    fake_quantise,
    low_bit_weights,
    megabytes,
    prepare_qat,
    rounded_state,
)
from itrd_nlp.models.students import build_student


def by_definition(row: list[float], bits: int) -> list[float]:
    """One row, number by number."""
    if bits == 1:
        scale = sum(map(abs, row)) / len(row)
        return [-scale if w < 0 else scale for w in row]
    step = max(map(abs, row)) / (2 ** (bits - 1) - 1)
    return [step * round(w / step) for w in row]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3)])
def test_each_output_is_rounded_by_the_definition(bits, shape):
    weight = torch.randn(shape, dtype=torch.float64)
    expected = [by_definition(row.flatten().tolist(), bits) for row in weight]
    found = fake_quantise(weight, bits)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64).view(shape))
    assert all(len(row.unique()) <= 2**bits for row in found)
    torch.testing.assert_close(fake_quantise(found, bits), found)


@pytest.mark.parametrize("bits", [1, 4])
def test_the_gradient_passes_straight_through(bits):
    weight = torch.randn(3, 4, requires_grad=True)
    factors = torch.randn(3, 4)
    (factors * fake_quantise(weight, bits)).sum().backward()
    assert torch.equal(weight.grad, factors)


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_a_row_of_zeros_stays_one(bits):
    assert torch.equal(fake_quantise(torch.zeros(2, 3), bits), torch.zeros(2, 3))


def test_layers_of_an_encoder_have_few_bits_and_embeddings_and_head_do_not(make_bert):
    model = make_bert(2, seed=0)
    prepare_qat(model, 2)
    names = {name for name, _ in low_bit_weights(model)}
    expected = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".layer." in name
    }
    assert names == expected
    assert len(names) == 12


def test_convolutions_of_stages_have_few_bits_and_the_first_one_does_not():
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_channels=1
    )
    model = ResNetForImageClassification(config)
    prepare_qat(model, 1)
    names = {name for name, _ in low_bit_weights(model)}
    assert names
    assert all(".stages." in name for name in names)
    images = torch.randn(2, 1, 16, 16)
    model.eval()
    found = model(pixel_values=images).logits
    plain = ResNetForImageClassification(config).eval()
    plain.load_state_dict(rounded_state(model))
    assert torch.equal(plain(pixel_values=images).logits, found)


def test_an_ordinary_model_with_the_rounded_state_computes_the_same(make_bert, span_batch):
    model = make_bert(2, seed=0).eval()
    before = copy.deepcopy(model)
    names = list(model.state_dict())
    prepare_qat(model, 3)
    assert list(model.state_dict()) == names
    found = model(**span_batch).start_logits
    assert not torch.allclose(found, before(**span_batch).start_logits)
    before.load_state_dict(rounded_state(model))
    assert torch.equal(before(**span_batch).start_logits, found)


def test_a_student_of_a_model_in_few_bits_starts_from_what_it_reads(make_bert, span_batch):
    model = make_bert(2, seed=0).eval()
    prepare_qat(model, 1)
    student = build_student(model, 2).eval()
    assert next(low_bit_weights(student), None) is None
    assert torch.equal(student(**span_batch).start_logits, model(**span_batch).start_logits)


def test_the_size_counts_the_bits_of_each_weight():
    model = nn.Sequential(nn.Linear(8, 4), nn.ModuleList([nn.Linear(16, 10)]))
    assert megabytes(model) == pytest.approx(4 * (8 * 4 + 4 + 16 * 10 + 10) / 1e6)
    prepare_qat(model, 3)
    # 160 weights of 3 bits, 10 scales, and 46 other numbers
    assert megabytes(model) == pytest.approx((160 * 3 / 8 + 4 * 10 + 4 * 46) / 1e6)


def test_a_model_without_repeated_layers_is_refused():
    with pytest.raises(UserError, match="weight_bits is 4, but Linear has no linear layer or"):
        prepare_qat(nn.Linear(2, 2), 4)
