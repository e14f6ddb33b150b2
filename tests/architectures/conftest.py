"""Tiny models of every architecture that the installed transformers lists for a head."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedModel

# The many names of a few sizes. A configuration takes those that it knows.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size",), 64),
    **dict.fromkeys(("hidden_size", "d_model", "dim", "emb_dim", "n_embd", "embedding_size"), 32),
    **dict.fromkeys(("word_embed_proj_dim",), 32),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"), 4
    ),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("num_key_value_heads", "decoder_layers"), 2),
    **dict.fromkeys(("intermediate_size", "d_ff", "d_inner", "hidden_dim", "ffn_dim"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "intermediate_dim"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 64),
    **dict.fromkeys(("d_kv", "head_dim"), 16),
    **{"attention_window": 8, "block_size": 4, "num_random_blocks": 1, "num_hidden_groups": 1},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "axial_pos_embds": False},
}


class CannotBeMade(Exception):
    """Not every configuration takes these sizes, and some models need other libraries."""


def tiny_model(model_type: str, class_name: str, *, seed: int = 0) -> PreTrainedModel:
    """A model of four layers with random weights.

    Raises:
        CannotBeMade: says why.
    """
    try:
        config_class = CONFIG_MAPPING[model_type]
        default = config_class()
        known = {name: value for name, value in SIZES.items() if hasattr(default, name)}
        torch.manual_seed(seed)
        return getattr(transformers, class_name)(config_class(**known)).eval()
    except Exception as error:
        raise CannotBeMade(f"{type(error).__name__}: {error}") from error


def tokens(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Two rows of eight tokens, with padding where the model takes a mask."""
    generator = torch.Generator().manual_seed(1)
    inputs = {"input_ids": torch.randint(5, 64, (2, 8), generator=generator)}
    if "attention_mask" in inspect.signature(model.forward).parameters:
        inputs["attention_mask"] = torch.tensor([[1] * 8, [1] * 6 + [0] * 2])
    return inputs


@pytest.fixture(scope="session")
def make_tiny() -> Any:
    return tiny_model


@pytest.fixture(scope="session")
def make_tokens() -> Any:
    return tokens
