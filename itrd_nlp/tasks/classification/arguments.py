"""The options of texts and their labels. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.errors import UserError


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
        default=384, metadata={"help": "Most tokens of a text; longer ones are cut."}
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Train on the first so many rows."}
    )
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Evaluate on the first so many rows."}
    )

    def __post_init__(self) -> None:
        for name in ("max_length", "max_train_samples", "max_eval_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}, but must be at least 1.")


@dataclass
class LabelArguments:
    """The text to label."""

    text: str | None = field(default=None, metadata={"help": "One text."})
    text_pair: str | None = field(
        default=None, metadata={"help": "The second text, for a model of pairs."}
    )
    max_length: int = field(
        default=384, metadata={"help": "Most tokens of a text; longer ones are cut."}
    )

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise UserError(f"max_length is {self.max_length}, but must be at least 1.")
