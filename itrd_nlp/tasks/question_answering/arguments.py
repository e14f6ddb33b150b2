"""The options of questions and their answers. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import COUNT, COUNT_FROM_0, PROCESSES, SEED, Range, check_values
from itrd_nlp.training.roles import Metadata

MAX_LENGTH, DOC_STRIDE = 384, 128
"""Tokens of a window, and tokens that two windows have in common, where nobody asks for others."""
MAX_ANSWER_LENGTH = 30
"""Tokens of the longest answer, where nobody asks for another."""
THRESHOLD_FIELD = "null_score_diff_threshold"
"""The field of ``config.json`` that holds the threshold of a model, so that every loader finds it."""
NULL_THRESHOLD = Range(least=-10000, most=10000)
"""The allowed thresholds of no answer; logits are far smaller."""


@dataclass
class DataArguments:
    """The questions, the windows that they are cut into, and the decoding of the answers."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": "SQuAD JSON to train on, 1.1 or 2.0, or a data set of the Hub such as rajpurkar/squad_v2."
        },
    )
    unlabelled_file: str | None = field(
        default=None,
        metadata={
            "help": "More questions to distil on, in the same format; answers are not needed and not read, so that the "
            "teacher alone teaches there. Questions that are trained on with their answers are left out."
        },
    )
    validation_file: str | None = field(
        default=None,
        metadata={"help": "SQuAD JSON to evaluate on, 1.1 or 2.0, or a data set of the Hub."},
    )
    max_train_samples: int | None = field(
        default=None,
        metadata=Metadata(
            help="Train on this many questions, drawn with data_subset_seed.",
            range=COUNT,
        ),
    )
    max_unlabelled_samples: int | None = field(
        default=None,
        metadata=Metadata(
            help="Take this many questions of unlabelled_file, drawn with data_subset_seed.",
            range=COUNT,
        ),
    )
    max_eval_samples: int | None = field(
        default=None,
        metadata=Metadata(
            help="Evaluate on this many questions, drawn with data_subset_seed.",
            range=COUNT,
        ),
    )
    data_subset_seed: int = field(
        default=0,
        metadata=Metadata(
            help="Seed of the draws of max_train_samples, max_unlabelled_samples, max_eval_samples and "
            "holdout_questions.",
            range=SEED,
        ),
    )
    holdout_questions: int | None = field(
        default=None,
        metadata=Metadata(
            help="Set aside at least this many questions of the train file, whole articles, drawn with "
            "data_subset_seed; they are never trained on.",
            range=COUNT,
        ),
    )
    evaluate_on_holdout: bool = field(
        default=False,
        metadata={"help": "Evaluate on the questions set aside, not on validation_file."},
    )
    max_length: int = field(
        default=MAX_LENGTH,
        metadata=Metadata(
            help="Tokens of a window: question, context and special tokens.",
            range=COUNT,
        ),
    )
    doc_stride: int = field(
        default=DOC_STRIDE,
        metadata=Metadata(
            help="Tokens that two windows of a context have in common.",
            range=COUNT_FROM_0,
        ),
    )
    max_answer_length: int = field(
        default=MAX_ANSWER_LENGTH,
        metadata=Metadata(
            help="Longest answer, in tokens.",
            range=COUNT,
        ),
    )
    null_score_diff_threshold: float | None = field(
        default=None,
        metadata=Metadata(
            help='Answer "" where the score of no answer minus that of the best span is above this. Default: where '
            "train_file has unanswerable questions, the best on threshold_questions; else that of the model.",
            range=NULL_THRESHOLD,
        ),
    )
    threshold_questions: int | None = field(
        default=None,
        metadata=Metadata(
            help="Set aside at least this many questions of train_file, whole articles, to find "
            "null_score_diff_threshold on; they are neither trained on nor judged on. Default: a tenth of them, at "
            "most 2000.",
            range=COUNT,
        ),
    )
    f1_unit: str | None = field(
        default=None,
        metadata=Metadata(
            help="Unit of F1: words as in SQuAD, or characters as in CMRC 2018. Default: characters where most "
            "questions are Chinese.",
            choices=["words", "characters"],
        ),
    )
    preprocessing_num_workers: int | None = field(
        default=None,
        metadata=Metadata(
            help="Processes that tokenise; default: one, whose tokenizer uses all cores.",
            range=PROCESSES,
        ),
    )

    def __post_init__(self) -> None:
        check_values(self)
        check_window_size(self.max_length, self.doc_stride)
        if self.threshold_questions is not None and self.null_score_diff_threshold is not None:
            raise UserError(
                "threshold_questions and null_score_diff_threshold are both set, but a given threshold is not "
                "searched; set one of them to null."
            )
        if self.evaluate_on_holdout and self.holdout_questions is None:
            raise UserError(
                "evaluate_on_holdout is true, but holdout_questions is not set, so nothing is set aside."
            )
        for name, source in (
            ("max_train_samples", "train_file"),
            ("holdout_questions", "train_file"),
            ("threshold_questions", "train_file"),
            ("max_unlabelled_samples", "unlabelled_file"),
        ):
            if getattr(self, name) is not None and getattr(self, source) is None:
                raise UserError(
                    f"{name} is set, but {source} is not, so there is nothing to draw from."
                )

    @property
    def evaluation_file(self) -> str | None:
        """The file that the questions to be judged on come from."""
        return self.train_file if self.evaluate_on_holdout else self.validation_file


@dataclass
class AnswerArguments:
    """The questions to answer, and how."""

    question: str | None = field(default=None, metadata={"help": "One question."})
    context: str | None = field(default=None, metadata={"help": "The text that has its answer."})
    top_k: int = field(
        default=1,
        metadata=Metadata(
            help="Answers per question.",
            range=COUNT,
        ),
    )
    max_answer_length: int = field(
        default=MAX_ANSWER_LENGTH,
        metadata=Metadata(
            help="Longest answer, in tokens.",
            range=COUNT,
        ),
    )
    max_length: int | None = field(
        default=None,
        metadata=Metadata(
            help="Tokens of a window; default: as in the training, else 384, or less if the model takes less.",
            range=COUNT,
        ),
    )
    doc_stride: int | None = field(
        default=None,
        metadata=Metadata(
            help="Tokens that two windows of a context have in common; default: as in the training, else 128, but no "
            "more than a third of a window of another length than that of the training.",
            range=COUNT_FROM_0,
        ),
    )
    handle_impossible_answer: bool | None = field(
        default=None,
        metadata={
            "help": 'Answer "" where no answer is likelier than any, for a model trained with such questions. Default: '
            "where the model has a threshold for it."
        },
    )
    null_score_diff_threshold: float | None = field(
        default=None,
        metadata=Metadata(
            help='Answer "" where the score of no answer minus that of the best span is above this. Default: that of '
            "the model, else 0.",
            range=NULL_THRESHOLD,
        ),
    )


def check_window_size(max_length: int, doc_stride: int) -> None:
    """Refuse windows that would overlap entirely.

    Raises:
        UserError: `doc_stride` is negative or not below `max_length`.
    """
    if not 0 <= doc_stride < max_length:
        raise UserError(
            f"doc_stride is {doc_stride}, but must be at least 0 and below max_length={max_length}."
        )
