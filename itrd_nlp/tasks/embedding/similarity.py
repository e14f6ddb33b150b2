"""Embedding, judged by the similarity of two texts: Spearman's correlation with the true one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.answers import answers_to
from itrd_nlp.tasks.embedding.base import EmbeddingTask, logger
from itrd_nlp.tasks.embedding.data import read_pairs
from itrd_nlp.tasks.embedding.metrics import check_vectors, rank_products
from itrd_nlp.tasks.embedding.page import SIMILARITY
from itrd_nlp.tasks.reranking.analysis import compared
from itrd_nlp.tasks.reranking.data import Row
from itrd_nlp.tasks.task import Answers, Judge, TaskData, read_answers

_FAR = 0.25  # of the pairs: so far apart in rank that two models disagree
_PARTS = ("lowest third", "middle third", "highest third")


def products(answers: Mapping[str, Any], rows: Sequence[Row]) -> NDArray[np.float64]:
    """The part of each pair in Spearman's correlation. A pair without an answer has the similarity 0."""
    found = [float(answers.get(str(i), 0.0)) for i in range(len(rows))]
    return rank_products(found, [row["score"] for row in rows])


class SimilarityJudge:
    """``compute_metrics`` of a trainer: Spearman's correlation in percent, and the similarities.

    Args:
        rows: as `read_pairs` returns them.
        order: of each feature its place among the first texts and then the second ones.

    Attributes:
        predictions: number of a pair, from 0 on, to its cosine.
    """

    def __init__(self, rows: list[Row], order: list[int]) -> None:
        self.rows, self.order = rows, order
        self.predictions: Answers = {}

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        found = np.asarray(outputs.predictions, dtype=np.float64)
        check_vectors(found)
        vectors = np.empty_like(found)
        vectors[self.order] = found
        count = len(self.rows)
        cosines = (vectors[:count] * vectors[count:]).sum(axis=1)
        # Stored vectors must score the same, and the last digits are those of the machine.
        self.predictions = {str(i): round(float(c), 6) for i, c in enumerate(cosines)}
        return {"spearman": 100 * float(products(self.predictions, self.rows).mean())}


class SentenceSimilarity(EmbeddingTask):
    """A vector for each text, judged by the cosines of pairs."""

    name = "sentence-similarity"
    metrics = {"spearman": "Spearman"}  # noqa: RUF012
    main_metric = "spearman"
    page = SIMILARITY

    def read_validation(self, path: str) -> list[Row]:
        """See `EmbeddingTask.read_validation`."""
        rows = read_pairs(path, self.args.max_eval_samples)
        if len({row["score"] for row in rows}) == 1:
            raise UserError(
                f"{path} has the score {rows[0]['score']:g} alone, so there is no order to compare with."
            )
        return rows

    def judged_texts(self, rows: list[Row]) -> list[str]:
        """The first texts, and then the second ones."""
        return [row[name] for name in ("text", "text_pair") for row in rows]

    def judge(self, rows: list[Row], order: list[int]) -> Judge:
        """See `EmbeddingTask.judge`."""
        return SimilarityJudge(rows, order)

    def warn(self, data: TaskData) -> None:
        """Say that few pairs judge little."""
        if len(data.examples) < 100:
            logger.warning(
                "A correlation over %d pairs says little about a model.", len(data.examples)
            )

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `Task.scores`. The part of a pair in the correlation may be below 0 and above 1."""
        return {"spearman": products(answers, cls(args)._validation)}

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: number of a pair, from 0 on, to its similarity."""
        rows = cls(args)._validation
        kept = answers_to(read_answers(Path(path)), len(rows), path, "pairs")
        for name, value in kept.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise UserError(
                    f"{path}: the answer to pair {name} is {value!r}, but must be a similarity."
                )
        score = 100 * float(products(kept, rows).mean())
        return {"spearman": score, "rows": len(rows), "missing": len(rows) - len(kept)}

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By the true similarity: the correlation inside each third of the pairs, 0 where it is negative."""
        rows = data.examples
        order = np.argsort([row["score"] for row in rows], kind="stable")
        groups = {}
        for name, part in zip(_PARTS, np.array_split(order, 3), strict=True):
            if len(part):
                found = [float(answers.get(str(i), 0.0)) for i in part]
                inside = rank_products(found, [rows[i]["score"] for i in part])
                groups[name] = {
                    "questions": len(part),
                    "spearman": min(100.0, max(0.0, 100 * float(inside.mean()))),
                }
        return {"score": groups}

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """See `Task.disagreements`: the pairs whose ranks differ by more than a quarter of all pairs.

        The model whose rank is nearer to the true one is right.
        """
        rows = data.examples
        ranks = [
            np.argsort(np.argsort(values, kind="stable"), kind="stable")
            for values in (
                [float(student.get(str(i), 0.0)) for i in range(len(rows))],
                [float(teacher.get(str(i), 0.0)) for i in range(len(rows))],
                [row["score"] for row in rows],
            )
        ]
        cases = []
        for i, (ours, theirs, true) in enumerate(zip(*ranks, strict=True)):
            if abs(ours - theirs) > _FAR * len(rows):
                nearer = abs(ours - true) < abs(theirs - true)
                shown = [f"similarity {found.get(str(i), 0.0):.3f}" for found in (student, teacher)]
                row = rows[i]
                question = f"{row['text']} | {row['text_pair']}"
                cases.append((question, [f"{row['score']:g}"], shown, [nearer, not nearer]))
        return compared(cases, len(rows))
