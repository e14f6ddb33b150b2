"""Tiny models of every architecture that the installed transformers lists for a head, and a batch for each."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

HEADS = {
    "question answering": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    "sequence classification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "token classification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "image classification": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
}
"""Name of a head to model types and the classes that have it, as transformers lists them."""

LABELS = 3
TOKENS = 16
ROWS = 4

# The many names of a few sizes. A configuration takes those that it knows.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "entity_vocab_size", "num_buckets"), 64),
    **dict.fromkeys(("hidden_size", "d_model", "dim", "emb_dim", "n_embd", "embedding_size"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "embed_dim", "true_hidden_size", "d_latents"), 32),
    **dict.fromkeys(("intra_bottleneck_size", "bottleneck_size", "entity_emb_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 4),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers"), 4),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_num_key_heads",), 2),
    **dict.fromkeys(("intermediate_size", "d_ff", "d_inner", "hidden_dim", "ffn_dim"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "intermediate_dim"), 64),
    **dict.fromkeys(("ffn_hidden_size", "n_inner", "mlp_dim"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 64),
    **dict.fromkeys(("max_2d_position_embeddings", "max_source_positions"), 64),
    **dict.fromkeys(("d_kv", "head_dim", "v_head_dim", "attention_head_dim"), 16),
    **dict.fromkeys(("global_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "lora_rank", "rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_selected_experts", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("mamba_d_state", "state_size", "mamba_dt_rank"), 8),
    **{"mamba_expand": 2, "n_mamba_heads": 2, "mamba_headdim": 32, "mamba_ngroups": 1},
    **{"attention_window": 8, "block_size": 4, "num_random_blocks": 1, "num_hidden_groups": 1},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 3},
    **{"image_size": 32, "num_latents": 8, "sliding_window": 8},
    **{"projection_dim": 32, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8},
    **{"num_image_tokens": 16, "mm_tokens_per_image": 4, "drop_path_rate": 0.0},
}

WIDTHS = (
    *(
        "hidden_size",
        "d_model",
        "dim",
        "emb_dim",
        "n_embd",
        "embedding_size",
        "word_embed_proj_dim",
    ),
    *("embed_dim", "true_hidden_size", "d_latents", "intra_bottleneck_size", "bottleneck_size"),
    *("head_dim", "d_kv", "v_head_dim", "entity_emb_size", "attention_head_dim"),
)
"""The names that are halved for a narrower model."""

# Lists with one entry for each stage of a network.
STAGES = {
    re.compile(r".*(depths|layer_repeats|num_blocks|num_layers)$"): lambda i: 1,
    re.compile(r".*(hidden_sizes|embed_dims?|dims|hidden_channels|neck_hidden_sizes)$"): (
        lambda i: 16 * 2 ** min(i, 1)
    ),
    re.compile(r".*(num_heads|num_attention_heads|encoder_num_heads)$"): lambda i: 2,
}

# What these types need beside the sizes, because their sizes depend on each other.
DEFAULT = object()  # the value that the type has by itself
EXCEPTIONS: dict[str, dict[str, Any]] = {
    "axk1": {"head_dim": 8},
    "bit": {"num_groups": 4},
    "bros": {"hidden_size": 64},
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0}
            for kind in ("full_attention", "sliding_attention")
        }
    },
    "cvt": {"drop_path_rate": [0.0, 0.0, 0.0]},
    "deepseek_v3": {"head_dim": 8},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
    "funnel": {"block_sizes": [2, 2], "num_hidden_layers": DEFAULT},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 8},
    "hgnet_v2": {"hidden_sizes": DEFAULT},
    "hiera": {"image_size": [64, 64]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lilt": {"hidden_size": 48},
    "lxmert": {"visual_feat_dim": 8, "l_layers": 4, "x_layers": 1, "r_layers": 1},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilevitv2": {"image_size": 64},
    "reformer": {
        "attn_layers": ["local", "lsh"] * 2,
        "attention_head_size": 16,
        "is_decoder": False,
        "axial_pos_embds": False,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 2,
        "num_hidden_layers": DEFAULT,
    },
    "roc_bert": {"pronunciation_vocab_size": 64, "shape_vocab_size": 64},
    "textnet": {"hidden_sizes": DEFAULT, "image_size": 32},
    "donut-swin": {"window_size": 2, "image_size": 64},
    "swin": {"window_size": 2, "image_size": 64},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "hybrid_layer_ids": [1, 3],
        "num_mem_blocks": 1,
    },
    "mt5": {"decoder_start_token_id": 0},
    "t5": {"decoder_start_token_id": 0},
    "umt5": {"decoder_start_token_id": 0},
    "xlnet": {"max_position_embeddings": DEFAULT},
    "xmod": {"default_language": "en_XX"},
}


# The same for a model of half the width.
NARROW: dict[str, dict[str, Any]] = {
    "layoutlmv3": {"coordinate_size": 3, "shape_size": 2},
    "levit": {"hidden_sizes": [8, 16, 16], "key_dim": [8, 8, 8]},
    "lilt": {"hidden_size": 24},
    "bros": {"hidden_size": 128},
    "mistral4": {"qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "head_dim": 16},
    "zamba2": {"mamba_headdim": 16},
}


CANNOT = {
    "dinat": "needs the package natten",
    "layoutlmv2": "needs the package detectron2",
    "shieldgemma2": "reads an image together with a prompt that its processor writes",
    "timm_wrapper": "needs the package timm, and a network of it",
}
"""Types without a tiny model here, and why."""


class CannotBeMade(Exception):
    """Some models need other libraries, and not every configuration can be made tiny."""


def listed() -> list[tuple[str, str, str]]:
    """Every head, type and class that the installed transformers lists."""
    return [
        (head, model_type, names if isinstance(names, str) else names[0])
        for head, types in HEADS.items()
        for model_type, names in types.items()
    ]


def sizes_of(config: PreTrainedConfig, *, narrow: bool = False) -> dict[str, Any]:
    """The arguments that make a configuration tiny, those of its parts included.

    Args:
        config: the default configuration of a type.
        narrow: half of the width. Default: false.
    """
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        part = getattr(config, name)
        if isinstance(part, PreTrainedConfig):
            found[name] = sizes_of(part, narrow=narrow) | {"model_type": part.model_type}
        elif isinstance(value, list | tuple) and value and all(type(v) is int for v in value):
            for pattern, entry in STAGES.items():
                if pattern.match(name):
                    found[name] = [entry(i) for i in range(len(value))]
                    if narrow and found[name][0] >= 16:
                        found[name] = [size // 2 for size in found[name]]
    attributes = {name: value for name, value in SIZES.items() if _takes(config, name)}
    if narrow:
        attributes |= {name: attributes[name] // 2 for name in WIDTHS if name in attributes}
    found = {**attributes, **found, **EXCEPTIONS.get(config.model_type, {})}
    if narrow:
        found |= NARROW.get(config.model_type, {})
    return {name: value for name, value in found.items() if value is not DEFAULT}


def _takes(config: PreTrainedConfig, name: str) -> bool:
    """Whether a configuration takes a number under this name."""
    real = config.attribute_map.get(name, name)
    fixed = isinstance(getattr(type(config), name, None), property)
    value = getattr(config, real, None)
    if real != name and real in SIZES:
        return False  # it is set under its real name
    if name == "drop_path_rate" and not isinstance(value, float):
        return False
    return hasattr(config, name) and not fixed and not isinstance(value, list | tuple | bool)


def tiny_model(
    model_type: str, class_name: str, *, seed: int = 0, narrow: bool = False
) -> PreTrainedModel:
    """A model of random weights with four layers.

    Args:
        model_type: a type of transformers.
        class_name: the class with the head.
        seed: of the weights.
        narrow: half of the width. Default: false.

    Raises:
        CannotBeMade: says why.
    """
    try:
        model_class = getattr(transformers, class_name)
        config_class = CONFIG_MAPPING[model_type]
        labels = (
            2 if class_name.endswith(("QuestionAnswering", "QuestionAnsweringSimple")) else LABELS
        )
        sizes = sizes_of(config_class(), narrow=narrow) | {"num_labels": labels}
        config = config_class(**sizes)
        if not isinstance(config, model_class.config_class):
            config = config.get_text_config()
        torch.manual_seed(seed)
        model: PreTrainedModel = model_class(config)
    except Exception as error:
        raise CannotBeMade(f"{type(error).__name__}: {str(error).strip()[:160]}") from error
    return model.eval()


def rows_for(model: PreTrainedModel, head: str) -> list[dict[str, torch.Tensor]]:
    """Rows that a model of this head reads, with labels, and with padding where it has tokens."""
    generator = torch.Generator().manual_seed(1)
    names = inspect.signature(model.forward).parameters
    return [_row(model, head, set(names), i, generator) for i in range(ROWS)]


def _row(
    model: PreTrainedModel, head: str, names: set[str], i: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    if head == "image classification":
        size = _found(model.config, "image_size", 32)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        shape = (_found(model.config, "num_channels", 3), height, width)
        pixels = torch.randn(shape, generator=generator)
        if model.main_input_name == "input_ids":  # each pixel is one of some colours
            pixels = torch.randint(0, 60, (model.config.n_positions,), generator=generator)
        if "spatial_shapes" in names:  # patches, and how many lie beside each other
            pixels = torch.randn(
                4, 3 * model.config.vision_config.patch_size**2, generator=generator
            )
            more = {"spatial_shapes": torch.tensor([2, 2]), "pixel_attention_mask": torch.ones(4)}
            return {"pixel_values": pixels, "labels": torch.tensor(i % LABELS), **more}
        return {model.main_input_name: pixels, "labels": torch.tensor(i % LABELS)}
    length = TOKENS - 4 * (i % 2)
    ids = torch.randint(5, 60, (TOKENS,), generator=generator)
    mask = (torch.arange(TOKENS) < length).long()
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    # Some heads look for one end of a text, or for the three marks around question and context.
    ids[[4, 5, length - 1]] = 2
    ids = torch.where(mask.bool(), ids, padding if isinstance(padding, int) else 0)
    name = model.main_input_name
    row = {name: ids, "attention_mask": mask}
    if "bbox" in names:
        row["bbox"] = mask[:, None] * torch.tensor([1, 2, 30, 40])
    if "visual_feats" in names:
        row |= {
            "visual_feats": torch.randn(2, 8, generator=generator),
            "visual_pos": torch.rand(2, 4),
        }
    if head == "question answering":
        row |= {"start_positions": torch.tensor(1), "end_positions": torch.tensor(3)}
    elif head == "token classification":
        row["labels"] = torch.where(mask.bool(), ids % LABELS, -100)
    else:
        row["labels"] = torch.tensor(i % LABELS)
    return row


def _found(config: Any, name: str, default: Any) -> Any:
    for part in (config, getattr(config, "vision_config", None)):
        value = getattr(part, name, None)
        if value is not None:
            return value
    return default
