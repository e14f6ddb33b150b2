"""The options of queries and their passages. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import COUNT, Range, check_values
from itrd_nlp.training.roles import Metadata, Role

LABEL_LOSSES = ("listwise", "pointwise")
KD_LOSSES = ("listwise", "margin_mse")
TEACHER_SCORES = ("model", "file")


@dataclass
class RankingArguments:
    """The queries, their passages, and the losses over them."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": 'JSON lines: {"query": ..., "passages": [...], "labels": [...]}, a number from 0 on for each '
            'passage, the larger, the more relevant. "scores" may hold those of a teacher, and "source" names where '
            "the query comes from."
        },
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "The same, to evaluate on. The labels are needed."}
    )
    max_length: int = field(
        default=256,
        metadata=Metadata(
            help="Most tokens of a query with a passage; the longer of both is cut.", range=COUNT
        ),
    )
    passages_per_query: int = field(
        default=8,
        metadata=Metadata(
            help="Train on so many passages of a query at most: those with the largest labels, and then the first "
            "ones. A batch holds per_device_train_batch_size queries. The evaluation reads all passages.",
            range=Range(least=2, most=2**20, whole=True),
        ),
    )
    max_train_samples: int | None = field(
        default=None,
        metadata=Metadata(help="Train on the first so many queries.", range=COUNT),
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata=Metadata(help="Evaluate on the first so many queries.", range=COUNT),
    )
    label_loss: str = field(
        default="listwise",
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Task loss: the cross entropy over the passages of a query ('listwise'), or that of each pair by "
            "itself, with labels from 0 to 1 ('pointwise').",
            choices=list(LABEL_LOSSES),
        ),
    )
    kd_loss: str = field(
        default="listwise",
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Logit KD: the KL divergence over the passages of a query ('listwise', ListNet), or the squared "
            "difference of all margins between two passages ('margin_mse').",
            choices=list(KD_LOSSES),
        ),
    )
    teacher_scores: str = field(
        default="model",
        metadata=Metadata(
            role=Role.OBJECTIVE,
            help="Scores that logit KD learns from: those of the teacher ('model'), or \"scores\" of train_file "
            "('file'). The hidden states are those of the teacher in both cases.",
            choices=list(TEACHER_SCORES),
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class QueryArguments:
    """The query to answer."""

    query: str | None = field(default=None, metadata={"help": "One query."})
    passages: list[str] | None = field(
        default=None, metadata={"help": "The passages to sort for --query."}
    )
    top_k: int | None = field(
        default=None, metadata=Metadata(help="Show the best so many. Default: all.", range=COUNT)
    )
    max_length: int | None = field(
        default=None,
        metadata=Metadata(
            help="Most tokens of a query with a passage. Default: as in the training.", range=COUNT
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.passages is not None and self.query is None:
            raise UserError(
                "passages is set, but belongs to --query; a line of --input has its own."
            )
