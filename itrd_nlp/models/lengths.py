"""The number of tokens for which a model has positions, and whether rows fit into it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from datasets import Dataset
from pyarrow import compute, types
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.ibert.quant_modules import QuantEmbedding

from itrd_nlp.errors import UserError
from itrd_nlp.models.onnx_model import OnnxModel
from itrd_nlp.models.peft_adapters import virtual_tokens

# The tables of positions in BERT and its kin, in GPT-2, in BART and OPT, in GPT, in XLM-like decoders, in CANINE.
_TABLES = (
    "position_embeddings",
    "wpe",
    "embed_positions",
    "positions_embed",
    "position_embedding",
    "char_position_embeddings",
)
# The fixed tables of sines in GPT-J and CTRL.
_SINES = ("embed_positions", "pos_encoding")


def longest_input(model: nn.Module) -> int | None:
    """Return the number of tokens for which a model has positions.

    Args:
        model: any model of transformers, or an `OnnxModel`. The graph of the latter has no names, so its architecture
            is built again without its weights.

    Returns:
        The number, or None if the model has no table of positions and takes any length. A prompt that PEFT has learned
        takes positions from the tokens. An exported model takes no more tokens than its configuration names, even if
        its architecture has no table of positions.
    """
    if isinstance(model, OnnxModel):
        with torch.device("meta"):  # no memory
            body: nn.Module = AutoModel.from_config(model.config)
        stated: int | None = getattr(model.config, "max_position_embeddings", None)
        return longest_input(body) or stated
    elsewhere = _other_parts(model)
    numbers = []  # LED has other numbers in encoder and decoder, and both read the text
    for name, module in model.named_modules():
        if name.startswith(elsewhere):
            continue
        # A subclass with other rules of its own, such as one that grows with the input, has no fixed number.
        for part, table in module.named_children():
            if part in _TABLES and isinstance(table, nn.Embedding | QuantEmbedding):
                numbers += [_rows(table), *_listed(module)]
        for part, buffer in module.named_buffers(recurse=False):
            if part in _SINES:
                numbers.append(buffer.shape[-2])
    return min(numbers) - virtual_tokens(model) if numbers else None


def _rows(table: nn.Embedding | QuantEmbedding) -> int:
    """The number of positions in a table."""
    rows = len(table.weight)
    offset = getattr(table, "offset", None)
    if isinstance(offset, int):  # BART and OPT have rows in front of the first position
        return rows - offset
    # RoBERTa and its kin count positions from the one behind that of the padding.
    return rows if table.padding_idx is None else rows - table.padding_idx - 1


def _listed(embeddings: nn.Module) -> list[int]:
    """The number of positions that a model lists beside its table. Nystromformer has two rows more than it lists."""
    buffers = embeddings.named_buffers(recurse=False)
    return [buffer.shape[-1] for name, buffer in buffers if name == "position_ids"]


def _other_parts(model: nn.Module) -> tuple[str, ...]:
    """The beginnings of the names of what lies in a part that reads no text, such as the one of Gemma 3 for images."""
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return ()
    ours = (type(config), type(config.get_text_config()))
    return tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, PreTrainedModel) and type(module.config) not in ours
    )


def check_datasets(models: Iterable[nn.Module | None], trainer_kwargs: Mapping[str, Any]) -> None:
    """Refuse data of a trainer with rows that are longer than a model takes.

    Args:
        models: students and teachers; None stands for one that there is not.
        trainer_kwargs: arguments of `transformers.Trainer`, of which ``train_dataset`` and ``eval_dataset`` are read.

    Raises:
        UserError: see `check_rows`.
    """
    given = [model for model in models if model is not None]
    for name in ("train_dataset", "eval_dataset"):
        data = trainer_kwargs.get(name)
        for rows in data.values() if isinstance(data, dict) else [data]:
            check_rows(given, rows)


def check_rows(models: Iterable[nn.Module], rows: Any) -> None:
    """Refuse rows that are longer than a model takes, which a GPU would report as a fault of its own.

    Args:
        models: students and teachers.
        rows: a data set with ``input_ids``. Other data can be read only once, or have no tokens, and pass.

    Raises:
        UserError: names both lengths and the model.
    """
    if not isinstance(rows, Dataset) or not len(rows) or "input_ids" not in rows.column_names:
        return
    ids = rows.select_columns(["input_ids"]).with_format("arrow")[:]["input_ids"]
    while types.is_list(ids.type.value_type):  # several sequences a row
        ids = compute.list_flatten(ids)
    longest = compute.max(compute.list_value_length(ids)).as_py()
    for model in models:
        most = longest_input(model)
        if most is not None and longest > most:
            raise UserError(
                f"max_length lets an example have {longest} tokens, but the model takes {most} at most "
                f"({type(model).__name__})."
            )
