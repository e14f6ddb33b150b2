"""Embedding, judged by recall: is the passage of a query among the nearest ones?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction

from itrd_nlp.tasks.answers import check_orders
from itrd_nlp.tasks.disagreements import compared
from itrd_nlp.tasks.embedding.base import EmbeddingTask, logger
from itrd_nlp.tasks.embedding.metrics import KS, nearest, recall
from itrd_nlp.tasks.embedding.page import RETRIEVAL
from itrd_nlp.tasks.groups import QUERY_WORDS, by_words, means_of
from itrd_nlp.tasks.lines import Row
from itrd_nlp.tasks.reranking.data import read_queries
from itrd_nlp.tasks.task import Answers, Judge, TaskData, read_answers


def corpus_of(rows: Sequence[Row]) -> list[str]:
    """The passages of all queries, each once, in the order of the file."""
    return list(dict.fromkeys(passage for row in rows for passage in row["passages"]))


def relevant_passages(rows: Sequence[Row]) -> list[list[int]]:
    """Of each query the numbers of its relevant passages in `corpus_of` the rows."""
    numbers = {passage: i for i, passage in enumerate(corpus_of(rows))}
    return [
        [numbers[p] for p, label in zip(row["passages"], row["labels"], strict=True) if label > 0]
        for row in rows
    ]


def recalls(answers: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, NDArray[np.floating]]:
    """recall@1 and recall@10 of every query, from 0 to 1. A query without an answer has 0."""
    relevant = relevant_passages(rows)
    return {
        f"recall_{k}": np.array(
            [recall(answers.get(str(i), []), true, k) for i, true in enumerate(relevant)]
        )
        for k in KS
    }


class RetrievalJudge:
    """``compute_metrics`` of a trainer: recall@1 and recall@10 in percent, and what was found.

    Args:
        rows: as `read_queries` returns them.
        order: of each feature its place among queries and passages.

    Attributes:
        predictions: number of a query, from 0 on, to the numbers of the nearest passages of all rows.
    """

    def __init__(self, rows: list[Row], order: list[int]) -> None:
        self.rows, self.order = rows, order
        self.predictions: Answers = {}

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        found = np.asarray(outputs.predictions, dtype=np.float32)
        vectors = np.empty_like(found)
        vectors[self.order] = found
        count = len(self.rows)
        best = nearest(vectors[:count], vectors[count:])
        self.predictions = {str(i): numbers for i, numbers in enumerate(best)}
        scores = recalls(self.predictions, self.rows)
        return {name: 100 * float(values.mean()) for name, values in scores.items()}


class Embedding(EmbeddingTask):
    """A vector for each text, judged by the recall of passages among those of all queries that are read.

    With other `max_eval_samples` the choice is another one, and the recalls cannot be compared.
    """

    name = "embedding"
    metrics = {"recall_1": "recall@1", "recall_10": "recall@10"}  # noqa: RUF012
    main_metric = "recall_1"
    page = RETRIEVAL

    def read_validation(self, path: str) -> list[Row]:
        """See `EmbeddingTask.read_validation`."""
        return read_queries(path, self.args.max_eval_samples)

    def judged_texts(self, rows: list[Row]) -> list[str]:
        """The queries, and then the passages."""
        return [*(row["query"] for row in rows), *corpus_of(rows)]

    def waiting(self, rows: list[Row]) -> list[str | None]:
        """See `EmbeddingTask.waiting`: a query waits for itself, because a search encodes its passages before."""
        return [*map(str, range(len(rows))), *[None] * len(corpus_of(rows))]

    def judge(self, rows: list[Row], order: list[int]) -> Judge:
        """See `EmbeddingTask.judge`."""
        return RetrievalJudge(rows, order)

    def warn(self, data: TaskData) -> None:
        """Say how many queries have no relevant passage, and how large the choice is."""
        without = sum(not numbers for numbers in relevant_passages(data.examples))
        if without:
            logger.warning(
                "%d of %d queries in %s have no relevant passage and count 0 for every model.",
                without,
                len(data.examples),
                self.args.validation_file,
            )
        passages = len(corpus_of(data.examples))
        if passages <= max(KS):
            logger.warning(
                "%s has %d passages alone, so that recall@10 finds all of them.",
                self.args.validation_file,
                passages,
            )

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `Task.scores`: the recalls of each query."""
        return dict(recalls(answers, cls(args)._validation))

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: number of a query, from 0 on, to the numbers of passages, the nearest first.

        The passages of the queries that are read are numbered in the order of the file, each text once.
        """
        rows = cls(args)._validation
        counts = [len(corpus_of(rows))] * len(rows)
        given = read_answers(Path(path))
        answers = check_orders(given, counts, path, whose="the", first="nearest")
        scores = {name: 100 * float(v.mean()) for name, v in recalls(answers, rows).items()}
        return {**scores, "rows": len(rows), "missing": len(rows) - len(answers)}

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By the number of words of the query."""
        queries = [row["query"] for row in data.examples]
        return {"words": by_words(queries, QUERY_WORDS, means_of(recalls(answers, data.examples)))}

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """See `Task.disagreements`: another passage is the nearest."""
        rows = data.examples
        corpus, relevant = corpus_of(rows), relevant_passages(rows)
        cases = []
        for i, row in enumerate(rows):
            first = [next(iter(found.get(str(i), [])), None) for found in (student, teacher)]
            if first[0] != first[1]:
                right = [n in relevant[i] for n in first]
                texts = ["" if n is None else corpus[n] for n in first]
                cases.append((row["query"], [corpus[n] for n in relevant[i]], texts, right))
        return compared(cases, len(rows))
