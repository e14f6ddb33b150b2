"""The base class of peers. A peer is another paper's loss between student and teacher, under the same trainer.

A peer is a subclass of `PeerLoss` with one method. A config names it and gives it a weight:

    peer_losses:
      itrd_nlp.losses.peers.PatientKD: 10.0
      my_package.MyLoss: 1.0
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor, nn

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import at_least_float32
from itrd_nlp.losses.outputs import AttentionStates, EncoderOutput, LayerPair

RESERVED_NAMES = (
    "loss",
    "task",
    "kd",
    "corr",
    "mi",
    "hidden_scale",
    "step",
    "epoch",
    "learning_rate",
    "grad_norm",
)
"""Names that a row of the log has for the other terms of the objective, and for what a trainer logs."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the two encoders.

    Attributes:
        student: width of the student's hidden states.
        teacher: width of the teacher's hidden states.
        student_heads: number of attention heads of the student.
        teacher_heads: number of attention heads of the teacher.
    """

    student: int
    teacher: int
    student_heads: int
    teacher_heads: int


@dataclass
class LayerStates:
    """The states of one layer that a peer reads. Padding is zero. The dtype is float32, or float64 for float64 models.

    Attributes:
        hidden: hidden states ``(B, L, d)``.
        attention: queries, keys and values, each ``(B, L, d)``. They are None for layer 0, and for a peer that does
            not need them.
    """

    hidden: Tensor
    attention: AttentionStates | None = None


class PeerLoss(nn.Module):
    """The loss of one method, summed over the layer pairs.

    A subclass implements `pair_loss`. If it has parameters, it makes their modules in its constructor, which takes the
    same arguments as this one. Every parameter must get a gradient in every step. Optimizer and checkpoints include the
    parameters; the published student does not. A method that reads only some pairs passes these on:
    ``super().__init__(sizes, pairs[-1:])``.

    `pair_loss` can rely on three things. It runs in float32 without autocast. Padding holds zeros instead of NaN. The
    teacher's states carry no gradient. `pair_loss` must leave padding out of the loss. The loss must be finite for a
    batch with one valid token.

    With several processes each process computes the loss of its own micro-batch.

    Args:
        sizes: sizes of the two encoders.
        pairs: the layer pairs.

    Attributes:
        needs_attention: true if `pair_loss` reads queries, keys and values. Default: false.

    Example:
        >>> class MeanAbsolute(PeerLoss):
        ...     def pair_loss(self, index, student, teacher, mask):
        ...         return (student.hidden - teacher.hidden).abs().mean(-1)[mask].mean()
        >>> states = EncoderOutput({}, {1: torch.ones(2, 3, 4)})
        >>> loss = MeanAbsolute(Sizes(4, 4, 2, 2), [LayerPair(1, 1)])
        >>> loss(states, states, torch.ones(2, 3))
        tensor(0.)
    """

    needs_attention: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, pairs: Sequence[LayerPair]) -> None:
        super().__init__()
        self.sizes = sizes
        self.pairs = list(pairs)

    def forward(self, student: EncoderOutput, teacher: EncoderOutput, mask: Tensor) -> Tensor:
        """Sum `pair_loss` over the layer pairs.

        Args:
            student: output of the student. It holds the student layers of the pairs.
            teacher: output of the teacher on the same inputs. It holds the teacher layers of the pairs.
            mask: ``(B, L)``, bool or 0/1, true where a token is no padding.

        Returns:
            A scalar.
        """
        mask = mask.bool()
        with torch.autocast(mask.device.type, enabled=False):
            losses = [
                self.pair_loss(
                    index,
                    self._states(student, pair.student, mask),
                    self._states(teacher, pair.teacher, mask, detach=True),
                    mask,
                )
                for index, pair in enumerate(self.pairs)
            ]
            return torch.stack(losses).sum()

    def pair_loss(
        self, index: int, student: LayerStates, teacher: LayerStates, mask: Tensor
    ) -> Tensor:
        """Compute the loss of one layer pair.

        Args:
            index: index of the pair in ``self.pairs``. A subclass finds the modules of the pair with it.
            student: states of the student's layer.
            teacher: states of the teacher's layer.
            mask: bool ``(B, L)``, true where a token is no padding.

        Returns:
            A scalar.
        """
        raise NotImplementedError

    def _states(
        self, output: EncoderOutput, layer: int, mask: Tensor, detach: bool = False
    ) -> LayerStates:
        def clean(x: Tensor) -> Tensor:
            x = x.detach() if detach else x
            # torch.where makes a new tensor. Autograd cannot save the tensors of a teacher under inference_mode.
            return at_least_float32(torch.where(mask.unsqueeze(-1), x, 0))

        attention = output.attention.get(layer) if self.needs_attention else None
        if attention is not None:
            attention = AttentionStates(
                clean(attention.queries), clean(attention.keys), clean(attention.values)
            )
        return LayerStates(clean(output.hidden_states[layer]), attention)


def term_name(peer: type[PeerLoss]) -> str:
    """Return the name of a peer's term in logs, see `term_of`."""
    return term_of(peer.__name__)


def term_of(class_name: str) -> str:
    """Return the name of a term in logs. It is the class name in snake case: ``PatientKD`` is ``patient_kd``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()


def load_peer(path: str) -> type[PeerLoss]:
    """Import a peer by the dotted path of its class.

    Args:
        path: dotted path, such as ``itrd_nlp.losses.peers.RKD``.

    Returns:
        The class.

    Raises:
        UserError: the module or the class does not exist, the class is no `PeerLoss`, or its name belongs to another
            term of the objective.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise UserError(
            f"peer_losses names {path!r}, but must name classes by their dotted paths, such as "
            "itrd_nlp.losses.peers.RKD."
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"peer_losses names {path}, but there is no module {error.name}; it must be installed or on PYTHONPATH."
        ) from None
    found = vars(module).get(name)
    if not (isinstance(found, type) and issubclass(found, PeerLoss) and found is not PeerLoss):
        known = ", ".join(_peers_of(module)) or "none"
        raise UserError(
            f"peer_losses names {path}, but {name} is no PeerLoss of {module_name}; its peers are: {known}."
        )
    if term_name(found) in RESERVED_NAMES:
        raise UserError(
            f"peer_losses names {path}, but the log has a {term_name(found)} already; the class needs another name."
        )
    return found


def _peers_of(module: ModuleType) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, PeerLoss) and value is not PeerLoss
    )
