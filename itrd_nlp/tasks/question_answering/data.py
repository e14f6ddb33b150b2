"""Everything that a trainer asks for, made of SQuAD files."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Value, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.files import file_record
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.lines import NAMED
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.collator import QuestionAnsweringCollator
from itrd_nlp.tasks.question_answering.evaluation import SquadMetrics
from itrd_nlp.tasks.question_answering.features import (
    evaluation_features,
    training_features,
)
from itrd_nlp.tasks.question_answering.read import draw, hold_out, read_squad

logger = logging.getLogger(__name__)


@dataclass
class EvaluationData:
    """The questions to be judged on, their windows, and the judge."""

    examples: Dataset
    features: Dataset
    metrics: SquadMetrics
    signature: str  # equal signatures: the same questions, windows and decoding


@dataclass
class TrainingData:
    """The windows to train on, and of how many questions they are.

    The positions of the answer are `IGNORED` in the windows of the ``unlabelled`` questions; ``examples`` are both.
    """

    features: Dataset
    examples: list[Dataset]
    questions: int
    unlabelled: int = 0


def seen_questions(trained_on: list[Dataset], judged_on: Dataset) -> int:
    """How many of the questions to be judged on are trained on: the same question about the same context."""
    judged = set(_asked(judged_on))
    return len({pair for part in trained_on for pair in _asked(part) if pair in judged})


def load_training_data(args: DataArguments, tokenizer: PreTrainedTokenizerBase) -> TrainingData:
    """Training questions and their windows, those with answers first.

    Raises:
        UserError: ``train_file`` and ``unlabelled_file`` are both missing, or cannot be used.
    """
    examples: Dataset | None = None
    held: Dataset | None = None
    if args.train_file is not None or args.unlabelled_file is None or args.holdout_questions:
        examples, held = _split_train_file(args)
        examples = draw(examples, args.max_train_samples, seed=args.data_subset_seed)
    windows = partial(
        training_features,
        tokenizer=tokenizer,
        max_length=args.max_length,
        doc_stride=args.doc_stride,
        num_proc=args.preprocessing_num_workers,
    )
    parts = [] if examples is None else [windows(examples)]
    unlabelled: Dataset | None = None
    if args.unlabelled_file is not None:
        unlabelled = _unlabelled_examples(args, examples, held)
        extra = windows(unlabelled)
        for name in ("start_positions", "end_positions"):
            extra = extra.add_column(
                name, np.full(len(extra), IGNORED, np.int32), feature=Value("int32")
            )
        parts.append(extra)
    return TrainingData(
        parts[0] if len(parts) == 1 else concatenate_datasets(parts),
        [part for part in (examples, unlabelled) if part is not None],
        0 if examples is None else len(examples),
        0 if unlabelled is None else len(unlabelled),
    )


def _asked(examples: Dataset) -> Iterator[tuple[str, str]]:
    return zip(examples["question"][:], examples["context"][:], strict=True)


def _unlabelled_examples(
    args: DataArguments, labelled: Dataset | None, held: Dataset | None
) -> Dataset:
    """The questions of ``unlabelled_file`` that are neither trained on with answers nor set aside."""
    assert args.unlabelled_file is not None
    examples = read_squad(args.unlabelled_file, split="train", answers=False)
    known = set() if labelled is None else set(labelled["id"][:])
    contexts = set() if held is None else set(held["context"][:])
    rows = [
        row
        for row, (name, context) in enumerate(
            zip(examples["id"][:], examples["context"][:], strict=True)
        )
        if name not in known and context not in contexts
    ]
    if not rows:
        raise UserError(
            f"unlabelled_file {args.unlabelled_file} holds no question that is not in train_file already."
        )
    if len(rows) < len(examples):
        examples = examples.select(rows, keep_in_memory=True)
    return draw(examples, args.max_unlabelled_samples, seed=args.data_subset_seed)


def load_validation_examples(args: DataArguments) -> Dataset:
    """The questions to be judged on: those of ``validation_file``, or those set aside of ``train_file``.

    Raises:
        UserError: the file is missing or cannot be used.
    """
    if args.evaluate_on_holdout:
        _, held = _split_train_file(args)
        assert held is not None
        return draw(held, args.max_eval_samples, seed=args.data_subset_seed)
    if args.validation_file is None:
        raise UserError(
            "validation_file is not set, but evaluation needs a SQuAD JSON file or a data set of the Hub."
        )
    return read_squad(
        args.validation_file,
        split="validation",
        max_samples=args.max_eval_samples,
        seed=args.data_subset_seed,
    )


def _split_train_file(args: DataArguments) -> tuple[Dataset, Dataset | None]:
    """All questions that may be trained on, and those set aside."""
    if args.train_file is None:
        raise UserError(
            "train_file is not set, but training needs a SQuAD JSON file or a data set of the Hub."
        )
    examples = read_squad(args.train_file, split="train")
    if args.holdout_questions is None:
        return examples, None
    return hold_out(examples, args.holdout_questions, seed=args.data_subset_seed)


def load_evaluation_data(
    args: DataArguments, tokenizer: PreTrainedTokenizerBase, *, skip_long: bool = False
) -> EvaluationData:
    """Validation questions, their windows and the metric.

    Args:
        args: which questions.
        tokenizer: of the model.
        skip_long: leave questions without an answer that are too long for a window. A warning names them.

    Raises:
        UserError: ``validation_file`` is missing or cannot be used, or no question has a window.
    """
    examples = load_validation_examples(args)
    features = evaluation_features(
        examples,
        tokenizer,
        max_length=args.max_length,
        doc_stride=args.doc_stride,
        num_proc=args.preprocessing_num_workers,
        skip_long=skip_long,
    )
    if skip_long:
        _name_long_questions(examples, features, args)
    metrics = SquadMetrics(examples, features, max_answer_length=args.max_answer_length)
    settings = [args.max_length, args.doc_stride, args.max_answer_length]
    content = json.dumps([settings, examples["id"][:], examples["answers"][:]])
    signature = hashlib.sha256(content.encode()).hexdigest()[:16]
    return EvaluationData(examples, features, metrics, signature)


def _name_long_questions(examples: Dataset, features: Dataset, args: DataArguments) -> None:
    """Warn of the questions without a window.

    Raises:
        UserError: all of them are.
    """
    known = set(features["example_id"][:])
    long = [name for name in examples["id"][:] if name not in known]
    if len(long) == len(examples):
        raise UserError(
            f"{args.evaluation_file}: no question leaves room for its context in a window of max_length="
            f"{args.max_length} with doc_stride={args.doc_stride}."
        )
    for name in long[:NAMED]:
        logger.warning(
            "question %s: it leaves no room for its context in a window of max_length=%d. It counts 0.",
            name,
            args.max_length,
        )


def data_record(source: str | None, questions: int) -> dict[str, Any]:
    """Describe a data set for the record of a run.

    Returns:
        `name` (of the file alone, or the id on the Hub), `questions`, and the `sha256` of a file.
    """
    if Path(str(source)).is_file():
        return file_record(str(source), questions=questions)
    return {"name": str(source), "questions": questions}


def collator(tokenizer: PreTrainedTokenizerBase) -> QuestionAnsweringCollator:
    """The collator that pads windows to a common multiple of 8."""
    return QuestionAnsweringCollator(tokenizer, pad_to_multiple_of=8)
