"""The options of plain text. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import COUNT, Range, check_values
from itrd_nlp.training.roles import Metadata


@dataclass
class PlainTextArguments:
    """The texts."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": 'Plain text: a .txt file with one text a line, JSON lines with "text", or a data set of the Hub '
            "such as Salesforce/wikitext. Blank texts are skipped."
        },
    )
    validation_file: str | None = field(
        default=None,
        metadata={
            "help": 'The same, to evaluate on. "source" may name where a text comes from, such as its article.'
        },
    )
    max_length: int = field(
        default=128,
        metadata=Metadata(
            help="Most tokens of a piece. A longer text is cut into several pieces, and none of it is lost.",
            range=Range(least=8, most=2**20, whole=True),
        ),
    )
    max_train_samples: int | None = field(
        default=None, metadata=Metadata(help="Train on the first so many texts.", range=COUNT)
    )
    max_eval_samples: int | None = field(
        default=None, metadata=Metadata(help="Evaluate on the first so many texts.", range=COUNT)
    )
    text_column: str = field(
        default="text", metadata={"help": "Column of the texts, in JSON lines or a data set."}
    )
    dataset_config: str | None = field(
        default=None,
        metadata={"help": "The part of a data set of the Hub, such as wikitext-103-raw-v1."},
    )
    train_split: str = field(
        default="train",
        metadata={"help": "Its split to train on. train[:10000] is a part of one."},
    )
    validation_split: str = field(
        default="validation", metadata={"help": "Its split to evaluate on."}
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class MaskedLMArguments(PlainTextArguments):
    """The texts, and how their tokens are masked."""

    mlm_probability: float = field(
        default=0.15,
        metadata=Metadata(
            help="Share of the tokens that are masked. In training eight of ten become the mask token, one becomes "
            "another token and one stays; in an evaluation all become the mask token.",
            range=Range(least=0.01, most=0.9),
        ),
    )


@dataclass
class EncoderArguments(PlainTextArguments):
    """The texts, and the encoder that a student is judged beside."""

    reference: str | None = field(
        default=None,
        metadata={
            "help": "Folder or model id of the encoder whose last hidden states are the true ones in an evaluation. "
            "Default: the teacher of the distillation."
        },
    )


@dataclass
class MaskArguments:
    """The text to fill."""

    text: str | None = field(
        default=None, metadata={"help": "One text with a mask token, such as [MASK]."}
    )
    top_k: int = field(
        default=5, metadata=Metadata(help="Tokens to show for each mask.", range=COUNT)
    )
    max_length: int | None = field(
        default=None,
        metadata=Metadata(
            help="Most tokens of a text. A mask behind them is refused. Default: 512, or as many as the model takes.",
            range=COUNT,
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.top_k > 1000:
            raise UserError(f"top_k is {self.top_k}, but must be at most 1000.")


@dataclass
class NoArguments:
    """An encoder without a head answers nothing, so that nothing can be asked."""
