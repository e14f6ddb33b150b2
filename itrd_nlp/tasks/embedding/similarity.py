"""Embedding, judged by the similarity of two texts: Spearman's correlation with the true one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.answers import answers_to
from itrd_nlp.tasks.disagreements import compared
from itrd_nlp.tasks.embedding.base import EmbeddingTask, logger
from itrd_nlp.tasks.embedding.data import read_pairs
from itrd_nlp.tasks.embedding.metrics import check_vectors
from itrd_nlp.tasks.embedding.page import SIMILARITY
from itrd_nlp.tasks.lines import Row, finite
from itrd_nlp.tasks.sums import numbers_of, ranks, spearman, spearman_by_row
from itrd_nlp.tasks.task import Answers, Judge, TaskData, read_answers

_FAR = 0.25  # of the pairs: so far apart in rank that two models disagree
_PARTS = ("lowest third", "middle third", "highest third")


def true_and_found(
    answers: Mapping[str, Any], rows: Sequence[Row]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The true scores and the cosines, ``(pairs,)`` each. See `numbers_of` for a pair without an answer."""
    true = np.array([row["score"] for row in rows], dtype=np.float64)
    return true, numbers_of(answers, len(rows))


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
        return {"spearman": 100 * spearman(*true_and_found(self.predictions, self.rows))}


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

    def waiting(self, rows: list[Row]) -> list[str | None]:
        """See `EmbeddingTask.waiting`: a pair waits for both of its texts."""
        return [str(i) for _ in ("text", "text_pair") for i in range(len(rows))]

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
        """See `Task.scores`: the correlation plus the influence of each pair, which may be below 0 and above 1."""
        return {"spearman": spearman_by_row(*true_and_found(answers, cls(args)._validation))}

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: number of a pair, from 0 on, to its similarity."""
        rows = cls(args)._validation
        kept = answers_to(read_answers(Path(path)), len(rows), path, "pairs")
        for name, value in kept.items():
            if finite(value) is None:
                raise UserError(
                    f"{path}: the answer to pair {name} is {value!r}, but must be a similarity."
                )
        score = 100 * spearman(*true_and_found(kept, rows))
        return {"spearman": score, "rows": len(rows), "missing": len(rows) - len(kept)}

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By the true similarity: the correlation inside each third of the pairs.

        A third whose pairs are equally alike has no correlation and is left out.
        """
        true, found = true_and_found(answers, data.examples)
        groups = {}
        parts = np.array_split(np.argsort(true, kind="stable"), 3)
        for name, part in zip(_PARTS, parts, strict=True):
            if len(np.unique(true[part])) > 1:
                inside = 100 * spearman(true[part], found[part])  # rounding may pass 100
                groups[name] = {
                    "questions": len(part),
                    "spearman": float(np.clip(inside, -100, 100)),
                }
        return {"score": groups} if groups else {}

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """See `Task.disagreements`: the pairs whose ranks differ by more than a quarter of all pairs.

        The model whose rank is nearer to the true one is right, and neither where both are equally far from it, one
        above and one below. Equal scores have the mean of their ranks.
        """
        rows = data.examples
        true, ours = true_and_found(student, rows)
        _, theirs = true_and_found(teacher, rows)
        of_student, of_teacher, right = ranks(ours), ranks(theirs), ranks(true)
        far = np.abs(of_student - of_teacher) > _FAR * len(rows)
        off, theirs_off = np.abs(of_student - right), np.abs(of_teacher - right)
        cases = []
        for i in np.flatnonzero(far):
            row, won = rows[i], [bool(off[i] < theirs_off[i]), bool(theirs_off[i] < off[i])]
            question = f"{row['text']} | {row['text_pair']}"
            shown = [f"similarity {found[i]:.3f}" for found in (ours, theirs)]
            cases.append((question, [f"{row['score']:g}"], shown, won))
        return compared(cases, len(rows))
