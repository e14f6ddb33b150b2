"""Queries, keys and values as an encoder runs."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    DistilBertConfig,
    ElectraConfig,
    LlamaConfig,
    LongformerConfig,
    MPNetConfig,
    RobertaConfig,
    SqueezeBertConfig,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.attention import attention_projections
from itrd_nlp.models.encode import encode

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def inputs_of(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_they_make_the_attention_maps_of_the_model(make_bert, span_batch, implementation):
    model = make_bert(3, seed=0, attn_implementation=implementation).eval()
    inputs = inputs_of(span_batch)
    states = encode(model, inputs, [1, 3], attention=True)[1].attention
    model.set_attn_implementation("eager")
    maps = model(**inputs, output_attentions=True).attentions
    assert set(states) == {1, 3}
    valid = inputs["attention_mask"].bool()
    for layer, state in states.items():
        for head in range(2):
            part = slice(16 * head, 16 * head + 16)
            scores = state.queries[..., part] @ state.keys[..., part].mT / math.sqrt(16)
            expected = scores.masked_fill(~valid[:, None, :], float("-inf")).softmax(-1)
            torch.testing.assert_close(maps[layer - 1][:, head], expected)


@pytest.mark.parametrize(
    ("config", "value"),
    [
        (RobertaConfig(**SIZES), "attention.self.value"),
        (ElectraConfig(**SIZES, embedding_size=32), "attention.self.value"),
        (MPNetConfig(**SIZES), "attention.attn.v"),
        (
            DistilBertConfig(vocab_size=64, dim=32, n_layers=3, n_heads=2, hidden_dim=64),
            "attention.v_lin",
        ),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_layers_are_found_by_the_names_of_each_architecture(span_batch, config, value):
    """The values are a linear map of the layer before, with the weights of that name."""
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    output = encode(model, inputs_of(span_batch), [0, 1, 2], attention=True)[1]
    assert set(output.attention) == {1, 2}
    weights = model.state_dict()
    for layer, state in output.attention.items():
        (name,) = (n for n in weights if n.endswith(f"layer.{layer - 1}.{value}.weight"))
        before = output.hidden_states[layer - 1]
        expected = before @ weights[name].T + weights[name.replace("weight", "bias")]
        torch.testing.assert_close(state.values, expected)


def test_an_architecture_whose_layers_are_elsewhere_is_refused():
    model = AlbertModel(AlbertConfig(**SIZES, embedding_size=16))
    with pytest.raises(UserError, match="those of AlbertModel are not where BERT"):
        attention_projections(model)


def test_convolutions_that_bear_the_names_are_refused():
    """SqueezeBERT computes queries, keys and values as (B, d, L)."""
    model = AutoModel.from_config(SqueezeBertConfig(**SIZES, embedding_size=32))
    with pytest.raises(UserError, match="those of SqueezeBertModel are not where BERT"):
        attention_projections(model)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        # (L, B, d)
        (LongformerConfig(**SIZES, attention_window=8), r"layer 1 of LongformerModel have \("),
        # fewer keys than queries
        (
            LlamaConfig(**SIZES, num_key_value_heads=1),
            r"ask for keys of the shape \(6, 16, 32\).*\(6, 16, 16\)",
        ),
    ],
    ids=["longformer", "llama"],
)
def test_another_layout_is_refused(span_batch, config, sentence):
    model = AutoModel.from_config(config).eval()
    with pytest.raises(UserError, match=sentence):
        encode(model, inputs_of(span_batch), [1], attention=True)


def test_layers_of_opt_and_llama_are_found(span_batch):
    model = AutoModel.from_config(LlamaConfig(**SIZES, num_key_value_heads=2)).eval()
    output = encode(model, inputs_of(span_batch), [0, 1], attention=True)[1]
    normed = model.layers[0].input_layernorm(output.hidden_states[0])
    expected = normed @ model.layers[0].self_attn.v_proj.weight.T
    torch.testing.assert_close(output.attention[1].values, expected)


def test_nothing_is_recorded_unless_asked_for_and_no_hook_remains(make_bert, span_batch):
    model = make_bert(2, seed=0)
    assert encode(model, inputs_of(span_batch), [1, 2])[1].attention == {}
    encode(model, inputs_of(span_batch), [1, 2], attention=True)
    layers = [module for layer in attention_projections(model) for module in layer]
    assert len(layers) == 6
    assert not any(module._forward_hooks for module in layers)


def test_gradients_reach_the_model_through_checkpointed_layers_too(make_bert, span_batch):
    def gradients(checkpointing):
        model = make_bert(3, seed=0).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        states = encode(model, inputs_of(span_batch), [2, 3], attention=True)[1].attention
        sum(x.square().sum() for state in states.values() for x in vars(state).values()).backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    plain, checkpointed = gradients(False), gradients(True)
    assert plain.keys() == checkpointed.keys()
    assert any("layer.0" in name for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)
