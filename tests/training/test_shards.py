"""FSDP gathers one layer after the other, whatever the class of the layers is called."""

from __future__ import annotations

from typing import Any

import pytest
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
)

from itrd_nlp.training.shards import name_units

SMALL: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


class Holder(nn.Module):
    """As the module of a distillation, which is no model of transformers."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student


@pytest.mark.parametrize(
    ("config", "units"),
    [
        (BertConfig(**SMALL), 2),
        (MPNetConfig(**SMALL), 2),
        (DistilBertConfig(vocab_size=16, dim=8, n_layers=2, n_heads=2, hidden_dim=8), 2),
        (ModernBertConfig(**SMALL, pad_token_id=0), 2),
        (AlbertConfig(**SMALL, embedding_size=8), 0),  # one layer for all
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_each_layer_is_a_unit(config: Any, units: int) -> None:
    model = AutoModelForSequenceClassification.from_config(config)
    network = Holder(model)
    name_units(network, model)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap"
    )
    policy = fsdp2_prepare_auto_wrap_policy(plugin, network)
    assert policy is not None
    found = [name for name, module in network.named_modules() if policy(module)]
    assert len(found) == units
    assert all(name.endswith(("0", "1")) for name in found)


def test_the_embeddings_are_no_unit() -> None:
    """transformers names them beside the layers."""
    model = AutoModelForSequenceClassification.from_config(BertConfig(**SMALL))
    assert "BertEmbeddings" in model._no_split_modules
    name_units(model, model)
    assert list(model._no_split_modules) == ["BertLayer"]
