"""Extractive question answering as SQuAD 1.1 and 2.0 define it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import (
    AutoModelForQuestionAnswering,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
from itrd_nlp.errors import UserError
from itrd_nlp.models.lengths import longest_input
from itrd_nlp.models.options import Running
from itrd_nlp.tasks.lines import Line, Refuse
from itrd_nlp.tasks.question_answering.analysis import disagreements
from itrd_nlp.tasks.question_answering.arguments import (
    THRESHOLD_FIELD,
    AnswerArguments,
    DataArguments,
)
from itrd_nlp.tasks.question_answering.breakdown import breakdown
from itrd_nlp.tasks.question_answering.collator import QuestionAnsweringCollator
from itrd_nlp.tasks.question_answering.data import (
    EvaluationData,
    data_record,
    load_evaluation_data,
    load_training_data,
    load_validation_examples,
    seen_questions,
    unanswerable,
    without_questions,
)
from itrd_nlp.tasks.question_answering.evaluation import (
    SquadMetrics,
    evaluate_predictions,
    load_predictions,
)
from itrd_nlp.tasks.question_answering.no_answer import best_threshold, threshold_of
from itrd_nlp.tasks.question_answering.page import PAGE
from itrd_nlp.tasks.question_answering.pipeline import load_pipeline
from itrd_nlp.tasks.question_answering.prediction import QuestionAnswerer, read_questions
from itrd_nlp.tasks.question_answering.scoring import (
    METRICS,
    WITH_ANSWER,
    WITHOUT_ANSWER,
    metrics_of,
    question_scores,
    rules_of,
)
from itrd_nlp.tasks.task import Answerer, Task, TaskData
from itrd_nlp.training.record import DataRecord

logger = logging.getLogger(__name__)


class QuestionAnswering(Task):
    """Questions whose answer is a span of a context; judged by exact match and F1."""

    name = "question-answering"
    arguments = DataArguments
    answer_arguments = AnswerArguments
    metrics = METRICS
    unanswered = "are too long for a window and count 0, see the warnings; a larger max_length may hold them."
    of_a_model = ("max_length", "doc_stride", "max_answer_length", THRESHOLD_FIELD)
    main_metric = "f1"
    heads = ("ForQuestionAnswering",)
    reading = dict.fromkeys(("max_answer_length", "f1_unit"))
    page = PAGE

    args: DataArguments
    _on_threshold: EvaluationData | None = None  # the questions on which the threshold is found

    @property
    def head(self) -> type:
        """A span head."""
        return AutoModelForQuestionAnswering

    @classmethod
    def head_for(cls, architecture: str) -> type:
        """See `Task.head_for`."""
        return AutoModelForQuestionAnswering

    def check_fine_tuning(self) -> None:
        """Refuse questions without answers.

        Raises:
            UserError: names the argument.
        """
        if self.args.unlabelled_file is not None:
            raise UserError(
                "unlabelled_file is set, but without a teacher only answers can be learned from."
            )

    def check_distillation(self, args: Any) -> None:
        """Refuse an objective that needs answers where the questions have none.

        Raises:
            UserError: names the argument.
        """
        if self.args.unlabelled_file is None:
            return
        if isinstance(args, TextBrewerArguments):
            if args.hard_label_weight > 0:
                raise UserError(
                    f"hard_label_weight is {args.hard_label_weight}, but the questions of unlabelled_file have no "
                    "answers; set it to 0."
                )
        elif not args.needs_teacher:
            raise UserError(
                "unlabelled_file is set, but w_kd, beta_corr and beta_mi are 0, so that nothing is learned from it."
            )
        elif self.args.train_file is None and args.w_task > 0:
            raise UserError(
                f"w_task is {args.w_task}, but train_file is not set and the questions of unlabelled_file have no "
                "answers; set w_task to 0 or name a train_file."
            )

    def load(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = True
    ) -> TaskData:
        """See `Task.load`: questions cut into windows."""
        args, datasets, train = self.args, {}, None
        self._on_threshold = None
        known = 0  # unanswerable questions that the model learns from or is judged on
        if training:
            read = load_training_data(args, tokenizer)
            train, known = read.features, read.unanswerable
            self._trained_on, self._on_threshold = read.examples, read.threshold
            if read.questions:
                datasets["train"] = data_record(
                    args.train_file, read.questions, known, subset=read.subset
                )
            if read.unlabelled:
                datasets["unlabelled"] = data_record(
                    args.unlabelled_file, read.unlabelled, subset=read.unlabelled_subset
                )
        # Before a training a question that is too long is refused; a model that is there answers all others.
        evaluation = load_evaluation_data(args, tokenizer, skip_long=not training)
        count = unanswerable(evaluation.examples)
        datasets["validation"] = data_record(
            args.evaluation_file,
            len(evaluation.examples),
            count,
            subset=evaluation.subset,
            split="train" if args.evaluate_on_holdout else None,
        )
        if self._on_threshold is not None:
            aside = without_questions(args, self._on_threshold, evaluation.examples)
            self._on_threshold = aside
            datasets["threshold"] = data_record(
                args.train_file, len(aside.examples), unanswerable(aside.examples), subset=True
            )
        evaluation.metrics.threshold = self._threshold(model.config, bool(known or count))
        return TaskData(
            examples=evaluation.examples,
            evaluation=evaluation.features,
            judge=evaluation.metrics,
            signature=evaluation.signature,
            collator=QuestionAnsweringCollator(tokenizer, most=longest_input(model)),
            tokenizer=tokenizer,
            datasets={split: DataRecord(**record) for split, record in datasets.items()},
            train=train,
            calibration=None if self._on_threshold is None else self._on_threshold.features,
        )

    def _threshold(self, config: Any, has_unanswerable: bool) -> float | None:
        """The threshold of no answer before one is searched; None where "" is no answer."""
        if self.args.null_score_diff_threshold is not None:
            return float(self.args.null_score_diff_threshold)
        own = threshold_of(config)
        if own is None and has_unanswerable:
            if self._on_threshold is None:
                logger.warning(
                    "Some questions are unanswerable, but the model has no %s in its config.json, so 0 is used.",
                    THRESHOLD_FIELD,
                )
            return 0.0
        return own

    def metrics_of(self, data: TaskData | None) -> Mapping[str, str]:
        """See `Task.metrics_of`: also those of questions with and without an answer, where some have none."""
        return METRICS | WITH_ANSWER | WITHOUT_ANSWER if data is None else metrics_of(data.examples)

    def calibrate(
        self, data: TaskData, config: Any, predict: Callable[[Dataset], Any], *, trained: bool
    ) -> dict[str, float]:
        """See `Task.calibrate`: the threshold above which no answer is likelier than the best span.

        A given one holds for each model. Else a model that is trained here gets the best one on the questions that are
        set aside for it, and another model keeps its own.
        """
        assert isinstance(data.judge, SquadMetrics)
        own, aside = threshold_of(config), self._on_threshold
        if self.args.null_score_diff_threshold is None:
            if aside is not None and (trained or own is None):
                labels = ("start_positions", "end_positions")  # else a trainer would score them
                rows = aside.features.remove_columns(labels)
                answers = aside.metrics.answers(predict(rows))
                references = zip(aside.examples["id"][:], aside.examples["answers"][:], strict=True)
                truths = {name: answer["text"] for name, answer in references}
                data.judge.threshold = best_threshold(answers, truths, aside.metrics.rules)
            elif own is not None:
                data.judge.threshold = own
        found = data.judge.threshold
        if found is None:
            return {}
        if trained:
            setattr(config, THRESHOLD_FIELD, found)
        return {THRESHOLD_FIELD: found}

    def warn(self, data: TaskData) -> None:
        """Say how many of the questions to be judged on are trained on."""
        seen = seen_questions(self._trained_on, data.examples)
        if seen:
            logger.warning(
                "%d of the %d questions of %s are trained on, too, so EM and F1 say little about others.",
                seen,
                len(data.examples),
                self.args.evaluation_file,
            )

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `Task.scores`: each the best over the true answers of a question."""
        examples = load_validation_examples(args)
        return question_scores(answers, examples, rules_of(examples, args.f1_unit))

    @classmethod
    def sources(cls, args: Any) -> NDArray[Any]:
        """See `Task.sources`: the article, or the passage where the file names no articles."""
        examples = load_validation_examples(args)
        names = [t or c for t, c in zip(examples["title"], examples["context"], strict=True)]
        return np.unique(names, return_inverse=True)[1]

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: a question without an answer counts 0, as in the official script."""
        examples = load_validation_examples(args)
        rules = rules_of(examples, args.f1_unit)
        return evaluate_predictions(load_predictions(path), examples, rules)

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By type of question and by length of the answer."""
        return breakdown(answers, data.examples, rules_of(data.examples, self.args.f1_unit))

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """See `Task.disagreements`: answers that differ after normalisation."""
        rules = rules_of(data.examples, self.args.f1_unit)
        return disagreements(student, teacher, data.examples, rules)

    @classmethod
    def asked(cls, source: str | None, options: Any, refuse: Refuse) -> Iterator[Line]:
        """See `Task.asked` and `itrd_nlp.tasks.question_answering.prediction.read_questions`."""
        pair = (options.question is not None, options.context is not None)
        if pair != (source is None, source is None):
            raise UserError("give either --question and --context or --input.")
        if source is None:
            row = {"question": options.question, "context": options.context}
            return iter([Line("--question", row)])
        return read_questions(source, refuse)

    @classmethod
    def answerer(cls, model: str, options: Any, running: Running) -> Answerer:
        """See `Task.answerer`."""
        qa = load_pipeline(
            model,
            **vars(running),
            top_k=options.top_k,
            max_answer_len=options.max_answer_length,
            max_length=options.max_length,
            doc_stride=options.doc_stride,
            handle_impossible_answer=options.handle_impossible_answer,
            null_score_diff_threshold=options.null_score_diff_threshold,
        )
        return QuestionAnswerer(qa)
