"""The options of a distillation by TextBrewer. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.training.ranges import Range
from itrd_nlp.training.roles import Metadata, Role

LOSSES = ("hidden_mse", "mmd")


@dataclass
class TextBrewerOptions:
    """The recipe: TextBrewer's temperature, weights and losses between layers."""

    temperature: float = field(
        default=8.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(above=0),
            help="Of the soft cross-entropy, > 0. TextBrewer has no factor T^2.",
        ),
    )
    kd_loss_weight: float = field(
        default=1.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0),
            help="Weight of the soft cross-entropy. >= 0.",
        ),
    )
    hard_label_weight: float = field(
        default=0.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0),
            help="Weight of the task's own loss. >= 0.",
        ),
    )
    losses: list[str] = field(
        default_factory=lambda: list(LOSSES),
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Losses between hidden states.",
            choices=list(LOSSES),
        ),
    )
    match_weight: float = field(
        default=1.0,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            range=Range(least=0),
            help="Weight of each of them. >= 0.",
        ),
    )
    layer_map: list[str] = field(
        default_factory=lambda: ["uniform"],
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Student layer <- teacher layer, as in ITRDTrainingArguments.",
        ),
    )
    include_embeddings: bool = field(
        default=True,
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Add the pair 0:0, the outputs of both embedding layers.",
        ),
    )
