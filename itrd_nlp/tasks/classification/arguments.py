"""The options of texts and their labels. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.glue import GLUE, PRESETS
from itrd_nlp.training.ranges import COUNT, check_values
from itrd_nlp.training.roles import Metadata, default_of

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
METRICS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "matthews": "Matthews",
    "positive_f1": "F1 of the positive label",
    "accuracy_matched": "accuracy, matched",
    "accuracy_mismatched": "accuracy, mismatched",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "entity_f1": "entity F1",
    "entity_precision": "precision",
    "entity_recall": "recall",
}
"""Name of each metric to its heading in tables."""


@dataclass
class TextArguments:
    """The labelled texts."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": 'JSON lines: {"text": ..., "label": ...}, with "text_pair" where there are two texts; or '
            '{"tokens": [...], "labels": [...]} for a label a token, null where none is judged. A label is a string, '
            'an integer or true or false; "labels" beside a text are labels that may hold together. Or a table (.csv, '
            ".tsv), columns of tokens and tags (.conll, .iob, .bio, .txt), or a data set of the Hub such as "
            "nyu-mll/glue."
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
    glue: str | None = field(
        default=None,
        metadata=Metadata(
            help="A task of GLUE: data of nyu-mll/glue, its columns and its metrics.",
            choices=list(GLUE),
        ),
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "The part of a data set of the Hub, such as cola."}
    )
    train_split: str = field(default="train", metadata={"help": "Its split to train on."})
    validation_splits: list[str] = field(
        default_factory=lambda: ["validation"],
        metadata={
            "help": "Its splits to evaluate on. Of each the first max_eval_samples rows are taken."
        },
    )
    text_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of the texts, or of the tokens. Default: tokens, where they are a list, else text."
        },
    )
    text_pair_column: str | None = field(
        default=None, metadata={"help": "Column of the second texts. Default: text_pair, if any."}
    )
    label_columns: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Column of the labels. Several columns: one a label, 1 where it holds and 0 where not. Default: "
            "label or labels; of tokens labels, ner_tags or tags."
        },
    )
    problem_type: str | None = field(
        default=None,
        metadata=Metadata(
            help="regression where labels are numbers to predict; multi_label_classification where a table has cells "
            "such as red|blue. Default: by the data.",
            choices=list(PROBLEM_TYPES),
        ),
    )
    metrics: list[str] = field(
        default_factory=list,
        metadata=Metadata(
            help="The metrics; a comparison is by the first one. Default: by the data.",
            choices=list(METRICS),
        ),
    )
    positive_label: str | None = field(
        default=None, metadata={"help": "The label of positive_f1, which counts no other."}
    )
    label_all_tokens: bool = field(
        default=False,
        metadata={
            "help": "Train on every part of a word. Default: on its first part alone. Judged is the first part."
        },
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.glue is not None:
            self._fill(PRESETS[self.glue])
        for name, values in (("metrics", self.metrics), ("label_columns", self.label_columns)):
            if len(set(values)) < len(values):
                raise UserError(f"{name} is {values}, but must not have a name twice.")
        if ("positive_f1" in self.metrics) != (self.positive_label is not None):
            raise UserError("positive_label and the metric positive_f1 need each other; give both.")
        if not self.validation_splits:
            raise UserError("validation_splits is empty, but must have one split at least.")

    def _fill(self, preset: dict[str, Any]) -> None:
        """Take what a task of GLUE says. A file of its own may take the place of the Hub's data.

        Raises:
            UserError: an argument contradicts the task.
        """
        for name, value in preset.items():
            given = getattr(self, name)
            if given == default_of(TextArguments.__dataclass_fields__[name]):
                setattr(self, name, value)
            elif given != value and not name.endswith("_file"):
                raise UserError(
                    f"{name} is {given!r}, but glue={self.glue} sets it to {value!r}; leave one out."
                )


@dataclass
class LabelArguments:
    """The text to label."""

    text: str | None = field(default=None, metadata={"help": "One text."})
    text_pair: str | None = field(
        default=None, metadata={"help": "The second text, for a model of pairs."}
    )
    text_column: str | None = field(
        default=None,
        metadata={
            "help": "Column or key of the texts or tokens. Default: tokens, where they are a list, else text."
        },
    )
    text_pair_column: str | None = field(
        default=None,
        metadata={
            "help": "Column or key of the second texts. Default: text_pair, where it is there."
        },
    )
    problem_type: str | None = field(
        default=None,
        metadata=Metadata(
            help="What the logits are: single_label_classification (one label), multi_label_classification (any "
            "number of them) or regression. Default: by config.json.",
            choices=list(PROBLEM_TYPES),
        ),
    )
    max_length: int | None = field(
        default=None,
        metadata=Metadata(
            help="Most tokens of a text; longer ones are cut. Default: as in the training, else 384.",
            range=COUNT,
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)
