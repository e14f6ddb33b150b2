"""The seam between a model and the objective: what a model of any kind must show so that it can be distilled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.utils import PushToHubMixin

from itrd_nlp.errors import UserError


class Reading(NamedTuple):
    """What an adaptor reads from a model for one batch.

    Attributes:
        logits: ``(B, C)`` or ``(B, L, C)``, or a mapping with ``start_logits`` and ``end_logits``, each ``(B, L)``.
        hidden_states: the states of layer 0 (the input of the first layer), 1, 2 and so on. Each is ``(B, L, d)``, or
            ``(B, d)``, or a map of features ``(B, C, H, W)``. Number and size may differ from layer to layer. It may be
            empty if no term of the objective reads hidden states.
        mask: ``(B, L)``, bool or 0/1, true where a position counts. Default: None, all positions count.
        loss: mean task loss of the batch, a scalar. Only a student needs it. Default: None.
    """

    logits: Tensor | dict[str, Tensor]
    hidden_states: Sequence[Tensor]
    mask: Tensor | None = None
    loss: Tensor | None = None


Adaptor = Callable[[nn.Module, dict[str, Any]], Reading]
"""Runs a model on a batch and says what came out.

The function gets the model and the whole batch. A teacher's batch has no labels. Default of the trainer: the models of
transformers are read by `itrd_nlp.models.encode.encode`, which needs no such function.

Example:
    >>> def read_convolutional(model, inputs):
    ...     maps = model.maps(inputs["pixels"])  # one (B, C, H, W) a stage
    ...     return Reading(model.head(maps[-1].mean((2, 3))), maps)
"""


def check_readable(model: nn.Module, adaptor: Adaptor | None, role: str) -> None:
    """Refuse a model that nobody knows how to read.

    Args:
        model: student or teacher.
        adaptor: the user's function for it, if there is one.
        role: ``student`` or ``teacher``.

    Raises:
        UserError: it is no model of transformers and has no adaptor, or it is a student that cannot be saved.
    """
    known = isinstance(model, PushToHubMixin)  # of transformers and of peft
    if role == "student" and not known:
        raise UserError(
            f"the student is a {type(model).__name__}, but must be a PreTrainedModel of transformers, which has "
            "save_pretrained; a teacher may be any torch.nn.Module."
        )
    if not known and adaptor is None:
        raise UserError(
            f"the {role} is a {type(model).__name__}, which is no model of transformers; give {role}_adaptor, a "
            "function of model and batch that returns an itrd_nlp.models.adaptor.Reading."
        )


def as_positions(states: Tensor, mask: Tensor | None, who: str, front: int = 0) -> Tensor:
    """Bring the states of one layer into the shape that the losses read.

    A map of features becomes one position for each of its places; in the view ``pooled`` its mean is the representation
    that the paper compares (section 3). States that a model has padded for itself lose the positions behind the mask.

    Args:
        states: ``(B, L, d)``, ``(B, d)`` or ``(B, C, H, W)``.
        mask: ``(B, L)``, or None where all positions count.
        who: name of the model, for the error message.
        front: positions that the model has put in front of the tokens. Default: 0.

    Returns:
        The states ``(B, L, d)``.

    Raises:
        UserError: they have another number of dimensions, or fewer positions than the mask.
    """
    if states.dim() == 2:
        states = states.unsqueeze(1)
    elif states.dim() == 4:
        states = states.flatten(2).mT
    if states.dim() != 3:
        raise UserError(
            f"{who} has hidden states of the shape {tuple(states.shape)}, but they must be (B, L, d), (B, d) or "
            "(B, C, H, W)."
        )
    if front:  # a slice of all positions is a new tensor, which the head does not read, so that it has no gradient
        states = states[:, front:]
    if mask is None or states.shape[1] == mask.shape[1]:
        return states
    if states.shape[1] < mask.shape[1]:
        raise UserError(
            f"{who} has hidden states of {states.shape[1]} positions for {mask.shape[1]} tokens, so no token knows its "
            "state; take layers that keep all tokens, or set beta_corr and beta_mi to 0."
        )
    return states[:, : mask.shape[1]]


def full_mask(states: Tensor) -> Tensor:
    """Return the mask of states whose positions all count: ``(B, L)``, bool."""
    return torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
