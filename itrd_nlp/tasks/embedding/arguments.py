"""The options of texts and their vectors. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import COUNT, check_values
from itrd_nlp.training.roles import Metadata, Role

KD_LOSSES = ("cosine", "mse", "similarities")


@dataclass
class EmbeddingArguments:
    """The texts, and the loss between vectors of teacher and student."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": 'JSON lines of one kind: {"query": ..., "passages": [...], "labels": [...]} as for the task '
            'reranking, {"text": ..., "text_pair": ..., "score": ...} with the similarity of two texts, or {"text": '
            '...}, of which the teacher alone can teach. "source" names where a query or a pair comes from.'
        },
    )
    validation_file: str | None = field(
        default=None,
        metadata={
            "help": "To evaluate on: queries with passages for the task embedding, pairs with a score for the task "
            "sentence-similarity."
        },
    )
    max_length: int = field(
        default=128,
        metadata=Metadata(help="Most tokens of a text; longer ones are cut.", range=COUNT),
    )
    max_train_samples: int | None = field(
        default=None, metadata=Metadata(help="Train on the first so many lines.", range=COUNT)
    )
    max_eval_samples: int | None = field(
        default=None, metadata=Metadata(help="Evaluate on the first so many lines.", range=COUNT)
    )
    kd_loss: str = field(
        default="cosine",
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Logit KD: one minus the cosine with the teacher's vector ('cosine'), the squared difference of both "
            "('mse'), or the KL divergence of the similarities between the texts of a batch ('similarities', for "
            "students of another width, too).",
            choices=list(KD_LOSSES),
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class EncodedArguments:
    """The text to encode."""

    text: str | None = field(default=None, metadata={"help": "One text."})
    text_pair: str | None = field(
        default=None,
        metadata={"help": "The second text: the answer is the similarity of both, and no vector."},
    )
    max_length: int | None = field(
        default=None,
        metadata=Metadata(help="Most tokens of a text. Default: as in the training.", range=COUNT),
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.text_pair is not None and self.text is None:
            raise UserError(
                "text_pair is set, but belongs to --text; a line of --input has its own."
            )
