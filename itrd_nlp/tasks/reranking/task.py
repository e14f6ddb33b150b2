"""Reranking: the passages of a query in the order of their relevance."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from itrd_nlp.distillation.textbrewer_trainer import refuse_textbrewer
from itrd_nlp.errors import UserError
from itrd_nlp.files import file_record
from itrd_nlp.models.options import Running
from itrd_nlp.tasks.batches import PairCollator
from itrd_nlp.tasks.lengths import prepare_reading
from itrd_nlp.tasks.lines import Line, Refuse, Row, has_more, named_file
from itrd_nlp.tasks.reranking.analysis import (
    breakdown,
    check_answers,
    disagreements,
    mean_scores,
    query_scores,
)
from itrd_nlp.tasks.reranking.arguments import QueryArguments, RankingArguments
from itrd_nlp.tasks.reranking.data import chosen_passages, read_queries
from itrd_nlp.tasks.reranking.features import list_features, pair_features
from itrd_nlp.tasks.reranking.losses import RankingLosses
from itrd_nlp.tasks.reranking.metrics import ranking
from itrd_nlp.tasks.reranking.page import PAGE
from itrd_nlp.tasks.reranking.prediction import Ranker, check_head, read_asked
from itrd_nlp.tasks.sources import sources_of
from itrd_nlp.tasks.task import (
    Answerer,
    Answers,
    Task,
    TaskData,
    read_answers,
    signature_of,
)
from itrd_nlp.training.record import DataRecord

logger = logging.getLogger(__name__)


class RankingJudge:
    """``compute_metrics`` of a trainer: nDCG@10 and MRR@10 in percent, and the rankings.

    Args:
        rows: as `read_queries` returns them.
        order: of each feature its place among the pairs of the rows.

    Attributes:
        predictions: number of a query, from 0 on, to the numbers of its passages, the best first.
    """

    def __init__(self, rows: list[Row], order: list[int]) -> None:
        self.rows, self.order = rows, order
        self.predictions: Answers = {}

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        scores = np.empty(len(self.order))
        scores[self.order] = np.asarray(outputs.predictions, dtype=np.float64).reshape(-1)
        ends = np.cumsum([len(row["passages"]) for row in self.rows])
        self.predictions = {
            str(i): ranking(part, row["passages"])
            for i, (part, row) in enumerate(
                zip(np.split(scores, ends[:-1]), self.rows, strict=True)
            )
        }
        return mean_scores(self.predictions, self.rows)


class Reranking(Task):
    """A score for each passage of a query; judged by nDCG@10 and MRR@10."""

    name = "reranking"
    arguments = RankingArguments
    answer_arguments = QueryArguments
    metrics = {"ndcg_10": "nDCG@10", "mrr_10": "MRR@10"}  # noqa: RUF012
    main_metric = "ndcg_10"
    heads = ("ForSequenceClassification",)
    page = PAGE

    args: RankingArguments

    @cached_property
    def _train(self) -> list[Row]:
        args = self.args
        rows = read_queries(
            named_file(args, "train"),
            args.max_train_samples,
            labels=False,
            scores=args.teacher_scores == "file",
        )
        rows = [chosen_passages(row, args.passages_per_query) for row in rows]
        if all(len(row["passages"]) == 1 for row in rows):
            raise UserError(
                f"{args.train_file} has one passage for each query, but an order is learned from at least two."
            )
        return rows

    @cached_property
    def _validation(self) -> list[Row]:
        return read_queries(named_file(self.args, "validation"), self.args.max_eval_samples)

    @property
    def head(self) -> type:
        """A head over the first token with one logit."""
        return AutoModelForSequenceClassification

    @property
    def labels(self) -> list[str]:
        """The only label, so that the head has one logit."""
        return ["relevance"]

    @classmethod
    def head_for(cls, architecture: str) -> type:
        """See `Task.head_for`."""
        return AutoModelForSequenceClassification

    def check_fine_tuning(self) -> None:
        """Read both files, and refuse what cannot be learned from without a teacher.

        Raises:
            UserError: see there.
        """
        if self.args.teacher_scores == "file":
            raise UserError(
                "teacher_scores is 'file', but a training without a teacher learns from labels; set it to model."
            )
        self._check_labels("a training without a teacher learns from them")
        _ = self._validation

    def check_distillation(self, args: Any) -> None:
        """Read both files, and refuse an objective that they cannot serve.

        Raises:
            UserError: names the argument.
        """
        refuse_textbrewer(args, "a reranker")
        if self.args.teacher_scores == "file" and args.w_kd == 0:
            raise UserError("teacher_scores is 'file', but w_kd is 0, so that nothing reads them.")
        if args.w_task > 0:
            self._check_labels(
                f"w_task is {args.w_task}; set it to 0 to learn from the teacher alone"
            )
        _ = self._train, self._validation

    def _check_labels(self, why: str) -> None:
        """Refuse training data whose labels say nothing.

        Raises:
            UserError: names the file and, from 0 on, the query.
        """
        path = self.args.train_file
        for i, row in enumerate(self._train):
            if row["labels"] is None:
                raise UserError(f"{path}: query {i} (from 0 on) has no labels, but {why}.")
            if self.args.label_loss == "pointwise" and max(row["labels"]) > 1:
                raise UserError(
                    f"{path}: query {i} (from 0 on) has the label {max(row['labels']):g}, but label_loss is "
                    "'pointwise', which needs labels from 0 to 1; divide them, or take listwise."
                )
        if all(len(set(row["labels"])) == 1 for row in self._train):
            raise UserError(
                f"{path}: all passages of each query have one label, so no order can be learned from labels."
            )

    def load(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = True
    ) -> TaskData:
        """See `Task.load`. A training tells the tokenizer the length, so that the saved model reads texts as in it."""
        args = self.args
        check_head(model.config, "the model")
        longest = prepare_reading(args.max_length, model, tokenizer)
        rows = self._validation
        evaluation, order = pair_features(rows, tokenizer, longest)
        files = {"validation": (args.validation_file, rows, args.max_eval_samples)}
        train = None
        if training:
            tokenizer.model_max_length = longest
            files = {"train": (args.train_file, self._train, args.max_train_samples), **files}
            scores = args.teacher_scores == "file"
            train = list_features(self._train, tokenizer, longest, scores=scores)
        return TaskData(
            examples=rows,
            evaluation=evaluation,
            judge=RankingJudge(rows, order),
            signature=signature_of([longest, rows]),
            collator=PairCollator(tokenizer),
            tokenizer=tokenizer,
            datasets={
                split: DataRecord(
                    **file_record(str(file), rows=len(part)), subset=has_more(str(file), most)
                )
                for split, (file, part, most) in files.items()
            },
            train=train,
            losses=RankingLosses(args.label_loss, args.kd_loss, args.teacher_scores),
        )

    def warn(self, data: TaskData) -> None:
        """Say how many queries judge nothing, and how many are trained on and judged on."""
        rows = data.examples
        alike = sum(len(set(row["labels"])) == 1 for row in rows)
        if alike:
            logger.warning(
                "%d of %d queries in %s have passages of one label alone, so every model has the same score for them.",
                alike,
                len(rows),
                self.args.validation_file,
            )
        if self.args.train_file is not None and data.train is not None:
            known = {row["query"] for row in self._train}
            both = sum(row["query"] in known for row in rows)
            if both:
                logger.warning("%d of %d queries are trained on and judged on.", both, len(rows))

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `Task.scores`: nDCG@10 and MRR@10 of each query."""
        return dict(query_scores(answers, cls(args)._validation))

    @classmethod
    def sources(cls, args: Any) -> NDArray[Any] | None:
        """See `Task.sources`. A query without a source is one by itself."""
        return sources_of(cls(args)._validation)

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: number of a query, from 0 on, to the numbers of its passages, the best first."""
        rows = cls(args)._validation
        answers = check_answers(read_answers(Path(path)), rows, path)
        missing = len(rows) - len(answers)
        return {**mean_scores(answers, rows), "rows": len(rows), "missing": missing}

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By the number of words of the query, and by the number of its passages."""
        return breakdown(answers, data.examples)

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """See `Task.disagreements`: another passage comes first."""
        return disagreements(student, teacher, data.examples)

    @classmethod
    def asked(cls, source: str | None, options: Any, refuse: Refuse) -> Iterator[Line]:
        """See `Task.asked` and `itrd_nlp.tasks.reranking.prediction.read_asked`."""
        return read_asked(source, options, refuse)

    @classmethod
    def answerer(cls, model: str, options: Any, running: Running) -> Answerer:
        """See `Task.answerer`."""
        return Ranker(model, options, running)
