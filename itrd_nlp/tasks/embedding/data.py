"""Texts to encode from files with a JSON object a line, and what is wrong with them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import Row, check_text, finite, read_lines
from itrd_nlp.tasks.reranking.data import read_queries
from itrd_nlp.tasks.sources import source_of

NEEDS = '"query" and "passages", or "text"'
Kind = Literal["queries", "pairs", "texts"]
"""The kind of training data: queries with their passages, pairs of texts with a score, or single texts."""


@dataclass(frozen=True)
class TrainingTexts:
    """Texts to train on.

    Attributes:
        kind: of all rows.
        rows: the texts of each row: query and passage, both texts of a pair, or one text.
        labels: of each row the number of its passage, its score, or 0.
        labelled: whether the labels teach something without a teacher.
    """

    kind: Kind
    rows: list[list[str]]
    labels: list[float]
    labelled: bool


def read_training(path: str | Path, max_samples: int | None = None) -> TrainingTexts:
    """Read texts to train on. The first line says of which kind they all are.

    Args:
        path: a file with a JSON object a line, see `itrd_nlp.tasks.embedding.arguments.EmbeddingArguments`.
        max_samples: read this many lines at most.

    Raises:
        UserError: names the file, the line and the field that is missing or wrong.
    """
    first = next(iter(read_lines(path, needs=NEEDS)), None)
    if first is None:
        raise UserError(f"{path} holds no text.")
    if first.row.get("query") is not None:
        return _of_queries(read_queries(path, max_samples, labels=False))
    if first.row.get("text_pair") is not None:
        pairs = read_pairs(path, max_samples)
        texts = [[row["text"], row["text_pair"]] for row in pairs]
        return TrainingTexts("pairs", texts, [row["score"] for row in pairs], labelled=True)
    rows = []
    for where, row in itertools.islice(read_lines(path, needs=NEEDS), max_samples):
        check_text(row, "text", where)
        for name in ("text_pair", "query"):
            if row.get(name) is not None:
                raise UserError(
                    f'{where}: "{name}" is there, but the first line of the file is a single text, and all lines must '
                    "be of one kind."
                )
        rows.append([row["text"]])
    return TrainingTexts("texts", rows, [0.0] * len(rows), labelled=False)


def _of_queries(rows: list[Row]) -> TrainingTexts:
    """The most relevant passage of each query, the first one where it has no labels.

    A query whose labels are all 0 has no relevant passage and is left out.
    """
    texts, labels = [], []
    numbers: dict[str, int] = {}
    for row in rows:
        given = row["labels"] or [1.0, *[0.0] * (len(row["passages"]) - 1)]
        if max(given) > 0:
            passage = row["passages"][given.index(max(given))]
            texts.append([row["query"], passage])
            labels.append(float(numbers.setdefault(passage, len(numbers))))
    labelled = all(row["labels"] is not None for row in rows)
    return TrainingTexts("queries", texts, labels, labelled=labelled)


def read_pairs(path: str | Path, max_samples: int | None = None) -> list[Row]:
    """Read pairs of texts with their similarity.

    Args:
        path: a file with a JSON object a line.
        max_samples: read this many at most.

    Returns:
        Rows with ``text``, ``text_pair``, ``score``, a float, and ``source`` (or None).

    Raises:
        UserError: names the file, the line and the field that is missing or wrong.
    """
    rows = []
    needs = '"text", "text_pair" and "score"'
    for where, row in itertools.islice(read_lines(path, needs=needs), max_samples):
        check_text(row, "text", where)
        check_text(row, "text_pair", where)
        score = finite(row.get("score"))
        if score is None:
            raise UserError(
                f'{where}: "score" is {row.get("score")!r}, but must be a finite number.'
            )
        texts = {name: row[name] for name in ("text", "text_pair")}
        rows.append(texts | {"score": score, "source": source_of(row, where)})
    if not rows:
        raise UserError(f"{path} holds no pair of texts.")
    return rows
