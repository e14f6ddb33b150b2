"""Everything that a trainer asks for, made of SQuAD files."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset, Value, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.files import source_record
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.lines import NAMED
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.evaluation import SquadMetrics
from itrd_nlp.tasks.question_answering.features import (
    evaluation_features,
    training_features,
    window_layout,
)
from itrd_nlp.tasks.question_answering.read import draw, hold_out, read_squad
from itrd_nlp.tasks.question_answering.scoring import rules_of

logger = logging.getLogger(__name__)

THRESHOLD_SHARE, THRESHOLD_QUESTIONS = 0.1, 2000
"""Share of train_file that is set aside to find the threshold of no answer, and the most of it."""


@dataclass
class EvaluationData:
    """The questions to be judged on, their windows, and the judge, whose threshold `QuestionAnswering.load` sets."""

    examples: Dataset
    features: Dataset
    metrics: SquadMetrics
    signature: str  # equal signatures: the same questions, windows and decoding
    subset: bool = False  # whether their file has more


@dataclass
class TrainingData:
    """The windows to train on, and of how many questions they are.

    The positions of the answer are `IGNORED` in the windows of the ``unlabelled`` questions; ``examples`` are both. On
    the questions of ``threshold``, which are trained on by nobody, the threshold of no answer is found. A ``subset`` is
    not all of its file.
    """

    features: Dataset
    examples: list[Dataset]
    questions: int
    unlabelled: int = 0
    unanswerable: int = 0
    threshold: EvaluationData | None = None
    subset: bool = False
    unlabelled_subset: bool = False


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
    aside: list[Dataset] = []
    threshold: Dataset | None = None
    subset = unlabelled_subset = False
    if args.train_file is not None or args.unlabelled_file is None:
        examples, held = _split_train_file(args)
        examples, threshold = _split_threshold_questions(args, examples)
        aside = [part for part in (held, threshold) if part is not None]
        taken = draw(examples, args.max_train_samples, seed=args.data_subset_seed)
        subset, examples = bool(aside) or len(taken) < len(examples), taken
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
        unlabelled, unlabelled_subset = _unlabelled_examples(args, examples, aside)
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
        0 if examples is None else unanswerable(examples),
        None if threshold is None else _threshold_data(args, threshold, tokenizer),
        subset=subset,
        unlabelled_subset=unlabelled_subset,
    )


def _asked(examples: Dataset) -> Iterator[tuple[str, str]]:
    """Of each question itself and its context. The id is no part of it: files are often numbered from 1 on."""
    return zip(examples["question"][:], examples["context"][:], strict=True)


def _unlabelled_examples(
    args: DataArguments, labelled: Dataset | None, aside: list[Dataset]
) -> tuple[Dataset, bool]:
    """The questions of ``unlabelled_file`` that are neither trained on with answers nor set aside.

    The second value says whether the file has more.
    """
    assert args.unlabelled_file is not None
    examples = read_squad(args.unlabelled_file, split="train", answers=False)
    total = len(examples)
    known = set() if labelled is None else set(_asked(labelled))
    contexts = {context for part in aside for context in part["context"][:]}
    rows = [
        row
        for row, pair in enumerate(_asked(examples))
        if pair not in known and pair[1] not in contexts
    ]
    if not rows:
        raise UserError(
            f"each question of unlabelled_file {args.unlabelled_file} is trained on with its answers or set aside."
        )
    if len(rows) < len(examples):
        examples = examples.select(rows, keep_in_memory=True)
    examples = draw(examples, args.max_unlabelled_samples, seed=args.data_subset_seed)
    return examples, len(examples) < total


def load_validation_examples(args: DataArguments) -> Dataset:
    """The questions to be judged on: those of ``validation_file``, or those set aside of ``train_file``.

    Raises:
        UserError: the file is missing or cannot be used.
    """
    return _validation_examples(args)[0]


def _validation_examples(args: DataArguments) -> tuple[Dataset, bool]:
    """The questions to be judged on, and whether their file has more."""
    if args.evaluate_on_holdout:
        _, held = _split_train_file(args)
        assert held is not None
        return draw(held, args.max_eval_samples, seed=args.data_subset_seed), True
    if args.validation_file is None:
        raise UserError(
            "validation_file is not set, but evaluation needs a SQuAD JSON file or a data set of the Hub."
        )
    examples = read_squad(args.validation_file, split="validation")
    taken = draw(examples, args.max_eval_samples, seed=args.data_subset_seed)
    return taken, len(taken) < len(examples)


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


def _split_threshold_questions(
    args: DataArguments, examples: Dataset
) -> tuple[Dataset, Dataset | None]:
    """The questions that are trained on, and those on which the threshold of no answer is found.

    None are set aside where the threshold is given, or where every question has an answer.

    Raises:
        UserError: nothing would be left to train on.
    """
    if args.null_score_diff_threshold is not None or not unanswerable(examples):
        if args.threshold_questions is not None:
            raise UserError(
                f"threshold_questions is {args.threshold_questions}, but each question of train_file {args.train_file} "
                "has an answer, so there is no threshold to find."
            )
        return examples, None
    share = max(1, min(round(THRESHOLD_SHARE * len(examples)), THRESHOLD_QUESTIONS))
    asked = args.threshold_questions or share
    try:
        return hold_out(examples, asked, seed=args.data_subset_seed, option="threshold_questions")
    except UserError as error:
        raise UserError(
            f"train_file {args.train_file} has unanswerable questions, but {error} Set null_score_diff_threshold, such "
            "as 0, to search none."
        ) from None


def _threshold_data(
    args: DataArguments, examples: Dataset, tokenizer: PreTrainedTokenizerBase
) -> EvaluationData:
    """The questions on which the threshold of no answer is found, those that are too long for a window left out.

    Raises:
        UserError: all of them are.
    """
    data = _evaluation_data(args, examples, tokenizer, skip_long=True)
    if not len(data.features):
        raise UserError(
            f"train_file {args.train_file}: no question set aside to find null_score_diff_threshold leaves room "
            f"for its context in a window of max_length={args.max_length} with doc_stride={args.doc_stride}."
        )
    return data


def without_questions(
    args: DataArguments, aside: EvaluationData, judged_on: Dataset
) -> EvaluationData:
    """The questions that are set aside for the threshold, without those that a model is judged on.

    Raises:
        UserError: none is left.
    """
    judged = set(_asked(judged_on))
    rows = [row for row, pair in enumerate(_asked(aside.examples)) if pair not in judged]
    if len(rows) == len(aside.examples):
        return aside
    if not rows:
        raise UserError(
            f"each question that is set aside of train_file {args.train_file} to find null_score_diff_threshold is one "
            f"of {args.evaluation_file}, too, where it must not be; name another file or set null_score_diff_threshold."
        )
    examples = aside.examples.select(rows, keep_in_memory=True)
    known = set(examples["id"][:])
    kept = [i for i, name in enumerate(aside.features["example_id"][:]) if name in known]
    features = aside.features.select(kept, keep_in_memory=True)
    metrics = copy.copy(aside.metrics)
    metrics.examples, metrics.features = examples, features
    return EvaluationData(examples, features, metrics, aside.signature)


def unanswerable(examples: Dataset) -> int:
    """How many of the questions have no answer."""
    return sum(not answers["text"] for answers in examples["answers"][:])


def load_evaluation_data(
    args: DataArguments, tokenizer: PreTrainedTokenizerBase, *, skip_long: bool = False
) -> EvaluationData:
    """Validation questions, their windows and the metric.

    Args:
        args: which questions.
        tokenizer: of the model.
        skip_long: leave questions without an answer that are too long for a window. Warnings name some of them and
            count the others.

    Raises:
        UserError: ``validation_file`` is missing or cannot be used, or no question has a window.
    """
    examples, subset = _validation_examples(args)
    data = _evaluation_data(args, examples, tokenizer, skip_long=skip_long)
    data.subset = subset
    if skip_long:
        _name_long_questions(examples, data.features, args)
    return data


def _evaluation_data(
    args: DataArguments, examples: Dataset, tokenizer: PreTrainedTokenizerBase, *, skip_long: bool
) -> EvaluationData:
    """Questions, their windows and the metric."""
    features = evaluation_features(
        examples,
        tokenizer,
        max_length=args.max_length,
        doc_stride=args.doc_stride,
        num_proc=args.preprocessing_num_workers,
        skip_long=skip_long,
    )
    metrics = SquadMetrics(
        examples,
        features,
        max_answer_length=args.max_answer_length,
        rules=rules_of(examples, args.f1_unit),
        cls_index=window_layout(tokenizer).cls_index,
    )
    return EvaluationData(examples, features, metrics, _signature(args, examples, metrics))


def _signature(args: DataArguments, examples: Dataset, metrics: SquadMetrics) -> str:
    """Digest of questions, windows, decoding and metric. A field that SQuAD 1.1 lacks is left out if absent."""
    settings: list[Any] = [args.max_length, args.doc_stride, args.max_answer_length]
    if metrics.rules.by_character:
        settings.append("characters")
    if args.null_score_diff_threshold is not None:
        settings.append({"threshold": args.null_score_diff_threshold})
    content = json.dumps([settings, examples["id"][:], examples["answers"][:]])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


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
    if len(long) > NAMED:
        logger.warning("%d more questions are too long, too. They count 0.", len(long) - NAMED)


def data_record(
    source: str | None,
    questions: int,
    unanswerable: int = 0,
    *,
    subset: bool,
    split: str | None = None,
) -> dict[str, Any]:
    """Describe a data set for the record of a run.

    Args:
        source: a file or an id of the Hub.
        questions: how many are taken.
        unanswerable: how many of them have no answer.
        subset: whether there are more.
        split: the one that they are of, where its use does not say it. Default: that of the same name.

    Returns:
        `name`, `questions`, the `sha256` of a file, `subset`, and `unanswerable` where some are; see
        `itrd_nlp.files.source_record`.
    """
    counts = {"questions": questions} | ({"unanswerable": unanswerable} if unanswerable else {})
    about = {"subset": subset} | ({} if split is None else {"split": split})
    return source_record(str(source), **counts) | about
