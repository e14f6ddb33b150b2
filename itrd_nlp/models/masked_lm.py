"""Masked language models that compute the logits of some positions alone, and encoders whose states are the output.

The logits of a vocabulary of 30,000 tokens take as much memory as 40 layers of hidden states. A masked token needs them
and no other does.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PreTrainedModel
from transformers.utils.generic import ModelOutput

from itrd_nlp.models.variants import class_of, encoder_class_of, variant

POSITIONS = "masked_positions"
"""Name of the argument that says which logits are computed: ``(M,)``, numbers of tokens in the flattened batch."""


class _AtPositions:
    """The part of a masked language model that its architecture does not have. See `masked_lm_class`."""

    def forward(
        self, *args: Any, masked_positions: Tensor | None = None, **kwargs: Any
    ) -> ModelOutput:
        """The model's own output, with logits ``(M, V)`` of ``masked_positions`` where they are given.

        The hidden states are those of all tokens. The head reads its part of the last ones.
        """
        if masked_positions is None:
            return super().forward(*args, **kwargs)  # type: ignore[misc,no-any-return]

        def chosen(module: nn.Module, inputs: Any, output: Any) -> Any:
            states = output.last_hidden_state.flatten(0, 1)
            output.last_hidden_state = states.index_select(0, masked_positions).unsqueeze(0)
            return output

        body: nn.Module = self.base_model  # type: ignore[attr-defined]
        handle = body.register_forward_hook(chosen)
        try:
            output: ModelOutput = super().forward(*args, **(kwargs | {"return_dict": True}))  # type: ignore[misc]
        finally:
            handle.remove()
        output["logits"] = output["logits"].squeeze(0)
        return output


@functools.cache
def masked_lm_class(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Return the class of masked language models of an architecture, which takes ``masked_positions``.

    Args:
        base: a class of transformers such as ``BertForMaskedLM``.
    """
    return variant(base, _AtPositions, POSITIONS)


class AutoModelForMaskedLM:
    """`transformers.AutoModelForMaskedLM` whose models take ``masked_positions``."""

    @classmethod
    def from_pretrained(cls, name: str, *, config: Any, **kwargs: Any) -> Any:
        """Load a model of any architecture with a masked-LM head.

        Args:
            name: folder of the model, or its id on the Hub.
            config: its configuration.
            **kwargs: as for ``transformers.AutoModelForMaskedLM.from_pretrained``.

        Raises:
            UserError: the architecture has no such head.
        """
        base = class_of(MODEL_FOR_MASKED_LM_MAPPING, config, name, "masked-LM head")
        return masked_lm_class(base).from_pretrained(name, config=config, **kwargs)


class _States:
    """The part of an encoder whose output is the last hidden state. See `AutoModelForStates`."""

    def forward(self, *args: Any, labels: Any = None, **kwargs: Any) -> ModelOutput:
        """The last hidden states ``(B, L, d)`` as ``logits``, and those of all layers where they are asked for.

        ``labels`` are for a trainer, which computes metrics only where there are some. They change nothing here.
        """
        output = super().forward(*args, **(kwargs | {"return_dict": True}))  # type: ignore[misc]
        found = ModelOutput(logits=output.last_hidden_state)
        hidden = output.get("hidden_states")
        if hidden is not None:
            found["hidden_states"] = hidden
        return found


@functools.cache
def states_class(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Return the class of encoders of an architecture whose ``logits`` are their last hidden states.

    Args:
        base: a class of transformers such as ``BertModel``.
    """
    return variant(base, _States, "labels")


class AutoModelForStates:
    """The class that loads encoders without a head, as ``AutoModelForMaskedLM`` loads its models."""

    @classmethod
    def from_pretrained(cls, name: str, *, config: Any, **kwargs: Any) -> Any:
        """Load an encoder of any architecture. See `AutoModelForMaskedLM.from_pretrained`.

        Raises:
            UserError: the architecture has no encoder, or a decoder beside it.
        """
        base = encoder_class_of(config, name)
        return states_class(base).from_pretrained(name, config=config, **kwargs)


def at_labels(logits: Tensor, labels: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    """Return the logits and the labels of the tokens that have a label.

    Args:
        logits: ``(M, V)`` of these tokens, or ``(B, L, V)`` of all.
        labels: ``(B, L)``.
        ignored: the label of all other tokens.

    Returns:
        ``(M, V)`` in float32, and ``(M,)``.
    """
    held = labels.ne(ignored)
    found = logits[held] if logits.dim() == 3 else logits
    return found.to(torch.promote_types(found.dtype, torch.float32)), labels[held]
