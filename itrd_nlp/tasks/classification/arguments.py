"""The options of texts and their labels. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.training.ranges import COUNT, check_values
from itrd_nlp.training.roles import Metadata


@dataclass
class TextArguments:
    """The labelled texts."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": 'JSON lines: {"text": ..., "label": ...}, with "text_pair" where there are two texts; or '
            '{"tokens": [...], "labels": [...]} for a label a token, null where none is judged. A label is a string, '
            "an integer or true or false."
        },
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "The same, to evaluate on."}
    )
    max_length: int = field(
        default=384,
        metadata=Metadata(
            help="Most tokens of a text; longer ones are cut.",
            range=COUNT,
        ),
    )
    max_train_samples: int | None = field(
        default=None,
        metadata=Metadata(
            help="Train on the first so many rows.",
            range=COUNT,
        ),
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata=Metadata(
            help="Evaluate on the first so many rows.",
            range=COUNT,
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class LabelArguments:
    """The text to label."""

    text: str | None = field(default=None, metadata={"help": "One text."})
    text_pair: str | None = field(
        default=None, metadata={"help": "The second text, for a model of pairs."}
    )
    max_length: int = field(
        default=384,
        metadata=Metadata(
            help="Most tokens of a text; longer ones are cut.",
            range=COUNT,
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)
