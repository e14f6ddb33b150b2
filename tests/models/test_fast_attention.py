"""The attention implementation `fast` against the formula and transformers' own."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    MPNetForQuestionAnswering,
    RobertaConfig,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.fast_attention import fast_attention
from itrd_nlp.models.loading import load_model
from itrd_nlp.models.options import LoadingArguments

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


ENCODER = nn.Module()
ENCODER.is_causal = False


@pytest.fixture
def heads():
    """Query, key and value (2, 3, 40, 16), and a mask that hides the end of the second row."""
    torch.manual_seed(0)
    states = torch.randn(3, 2, 3, 40, 16, dtype=torch.float64).unbind(0)
    mask = torch.ones(2, 1, 40, 40, dtype=torch.bool)
    mask[1, :, :, 25:] = False
    return states, mask


def formula(query, key, value, mask, scaling):
    scores = query @ key.mT * scaling
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def through(attention, states, dtype):
    """The output and the three gradients of a fixed function of it."""
    leaves = [x.to(dtype).requires_grad_() for x in states]
    output = attention(*leaves)
    direction = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
    (output * direction.to(dtype)).sum().backward()
    return [x.detach().double() for x in (output, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scaling", [None, 0.1])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_values_and_gradients_are_those_of_the_formula(heads, masked, scaling, dtype, tolerance):
    states, mask = heads
    mask = mask if masked else None
    expected = through(
        lambda *leaves: formula(*leaves, mask, 0.25 if scaling is None else scaling),
        [x.to(dtype) for x in states],  # rounded as what is compared
        torch.float64,
    )
    found = through(
        lambda *leaves: fast_attention(ENCODER, *leaves, mask, scaling=scaling)[0],
        states,
        dtype,
    )
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < tolerance * other.norm()


def test_bf16_on_a_cpu_is_written_out_in_training_and_fused_elsewhere(heads):
    (query, key, value), mask = heads
    ran = []

    class Fused(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            ran.append(function.__name__)
            return function(*args, **(kwargs or {}))

    def is_fused(dtype, module=ENCODER, **arguments):
        ran.clear()
        states = [x.to(dtype) for x in (query, key, value)]
        with Fused():
            fast_attention(module, *states, mask, **arguments)
        return "scaled_dot_product_attention" in ran

    assert not is_fused(torch.bfloat16)
    # What only a decoder or a bias of positions asks for is left to the fused one.
    assert is_fused(torch.bfloat16, nn.Module())
    assert is_fused(torch.bfloat16, is_causal=True)
    assert is_fused(torch.bfloat16, position_bias=torch.zeros(1, 3, 40, 40).bfloat16())
    assert is_fused(torch.float32)
    with torch.no_grad():
        assert is_fused(torch.bfloat16)


def test_dropout_drops_probabilities_and_scales_the_rest(heads):
    (query, key, _), _ = heads
    states = [query.bfloat16(), key.bfloat16(), torch.eye(40).expand(2, 3, 40, 40).bfloat16()]
    whole = fast_attention(ENCODER, *states, None)[0]
    dropped = fast_attention(ENCODER, *states, None, dropout=0.5)[0]
    gone = dropped == 0
    assert 0.45 < gone.float().mean() < 0.55
    torch.testing.assert_close(dropped[~gone], 2 * whole[~gone])


@pytest.mark.parametrize(
    "config",
    [
        RobertaConfig(**SIZES),
        ElectraConfig(**SIZES, embedding_size=32),
        DistilBertConfig(vocab_size=64, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_a_model_says_the_same_as_with_eager(span_batch, config, autocast):
    torch.manual_seed(0)
    model = AutoModel.from_config(config).train(False)
    inputs = {name: span_batch[name] for name in ("input_ids", "attention_mask")}
    valid = inputs["attention_mask"].bool()
    assert not valid.all()
    said = {}
    for name in ("eager", "fast"):
        model.set_attn_implementation(name)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            said[name] = model(**inputs).last_hidden_state[valid].float()
    tolerance = 2e-2 if autocast else 1e-5
    assert (said["fast"] - said["eager"]).norm() < tolerance * said["eager"].norm()


def test_what_a_padded_position_holds_changes_nothing(make_bert, span_batch):
    model = make_bert(2, seed=0, attn_implementation="fast")
    inputs = {name: span_batch[name] for name in ("input_ids", "attention_mask")}
    valid = inputs["attention_mask"].bool()
    other = inputs | {"input_ids": torch.where(valid, inputs["input_ids"], 7)}
    with torch.autocast("cpu", torch.bfloat16):
        first, second = (model(**each).start_logits[valid] for each in (inputs, other))
    assert torch.equal(first, second)


def test_a_model_with_an_attention_of_its_own_is_refused(tmp_path):
    MPNetForQuestionAnswering(MPNetConfig(**SIZES)).save_pretrained(tmp_path)
    arguments = LoadingArguments(attn_implementation="fast")
    with pytest.raises(UserError, match="MPNetForQuestionAnswering has its own attention code"):
        load_model(
            str(tmp_path), role="teacher", args=arguments, head=AutoModelForQuestionAnswering
        )


def test_a_checkpoint_does_not_ask_for_it(make_bert, tmp_path):
    make_bert(2, seed=0, attn_implementation="fast").save_pretrained(tmp_path)
    assert "fast" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
