"""The layers of a model and their widths, by its configuration or by its states for some rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    default_data_collator,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.adaptor import Adaptor
from itrd_nlp.models.encode import encode, reads_tokens
from itrd_nlp.models.modes import evaluating

Example = Callable[[], dict[str, Any]]
"""Returns a batch of some rows."""
Rows = Callable[[Collection[str] | None], dict[str, Any]]
"""Returns a batch of the columns of some rows; None: of all their columns."""


@dataclass(frozen=True)
class Anatomy:
    """The layers of a model.

    Attributes:
        widths: width of hidden state 0, 1 and so on; index 0 is the input of the first layer.
    """

    widths: tuple[int, ...]

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self.widths) - 1


def layers_of(model: nn.Module) -> int | None:
    """Return the number of layers that the configuration of a model names; None if it names none, as of Perceiver.

    Args:
        model: a model of transformers. Of one with several parts, such as Gemma 3, the part that reads text counts.
    """
    config: Any = model.config
    layers: int | None = getattr(config.get_text_config(), "num_hidden_layers", None)
    return layers


def anatomy(
    model: nn.Module, adaptor: Adaptor | None = None, example: Example | None = None
) -> Anatomy:
    """Find the layers of a model.

    The configuration of an encoder of tokens says how many layers of which width it has. The stages of a network for
    images differ in width, and a module of the user's has no configuration. The hidden states of some rows show theirs.

    Args:
        model: any model.
        adaptor: the user's function that reads it.
        example: makes the rows. Default: None, the configuration alone must say it.

    Raises:
        UserError: the configuration does not say it, and there are no rows.
    """
    config = getattr(model, "config", None)
    width = getattr(config, "hidden_size", None)
    layers = getattr(config, "num_hidden_layers", None)
    if (
        adaptor is None
        and reads_tokens(model)
        and isinstance(width, int)
        and isinstance(layers, int)
    ):
        return Anatomy((width,) * (layers + 1))
    if example is None:
        raise UserError(
            f"the configuration of {type(model).__name__} does not say the width of each layer; give the trainer a "
            "train_dataset, whose first rows show it."
        )
    with torch.no_grad(), torch.random.fork_rng(devices=[]), evaluating(model):
        weights = next(model.parameters(), torch.empty(0))  # a teacher may read what is stored
        inputs = {name: _moved(value, weights) for name, value in example().items()}
        states = encode(model, inputs, None, adaptor=adaptor)[1].hidden_states
    if not states:
        raise UserError(
            f"{type(model).__name__} returns no hidden states, but beta_corr, beta_mi or peer_losses read them; set "
            "them to 0, or give an adaptor that returns them."
        )
    return Anatomy(tuple(states[layer].shape[-1] for layer in sorted(states)))


def first_rows(
    rows: Any, collate: Any, tokenizer: Any, columns: Collection[str] | None = None
) -> dict[str, Any]:
    """Collate the first two rows of a data set as the trainer does.

    Args:
        rows: a data set, or an iterable one.
        collate: the collator. None: the one that transformers takes.
        tokenizer: the tokenizer, which pads if there is no collator. Default of transformers: None.
        columns: the columns that the trainer keeps. Default: all of them.
    """
    found = list(itertools.islice(rows, 2))
    if columns is not None:
        found = [
            {name: value for name, value in row.items() if name in columns}
            if isinstance(row, Mapping)
            else row
            for row in found
        ]
    if collate is None:
        padding = isinstance(tokenizer, PreTrainedTokenizerBase)
        collate = DataCollatorWithPadding(tokenizer) if padding else default_data_collator
    batch: dict[str, Any] = dict(collate(found))
    return batch


def _moved(value: Any, weights: torch.Tensor) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    floating = value.is_floating_point()
    return value.to(weights.device, weights.dtype if floating else value.dtype)
