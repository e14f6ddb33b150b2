"""Pairs of questions with a graded similarity made of SQuAD, for those who have no other data at hand.

Two questions about one paragraph are alike, two about one article less so, and two about two articles not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import Row

PARAGRAPH, ARTICLE, NOTHING = SCORES = (1.0, 0.5, 0.0)
"""The similarity of two questions that share their paragraph, their article alone, or nothing."""


def similarity_rows(examples: Sequence[dict[str, Any]], *, seed: int = 0) -> Iterator[Row]:
    """One row for each question: it and another one, drawn at random. The three scores take turns.

    A question to which no other one has the score of its turn gives no row.

    Args:
        examples: rows of `read_squad`.
        seed: of the draws.

    Raises:
        UserError: all pairs have one score, so they cannot judge a model.
    """
    generator = np.random.default_rng(seed)
    by_title: dict[str, list[dict[str, Any]]] = {}
    for example in examples:
        by_title.setdefault(example["title"], []).append(example)
    titles = list(by_title)
    made: set[float] = set()
    for i, one in enumerate(examples):
        score, title = SCORES[i % len(SCORES)], one["title"]
        if score == NOTHING:
            elsewhere = [name for name in titles if name != title]
            title = elsewhere[generator.integers(len(elsewhere))] if elsewhere else title
        others = [other for other in by_title[title] if similarity(one, other) == score]
        if not others:
            continue
        made.add(score)
        other = others[generator.integers(len(others))]
        yield {
            "text": one["question"].strip(),
            "text_pair": other["question"].strip(),
            "score": score,
            "source": one["title"],
        }
    if len(made) < 2:
        raise UserError("all pairs of questions would have one similarity, so they judge no model.")


def similarity(one: dict[str, Any], other: dict[str, Any]) -> float | None:
    """The similarity of two questions, None where they are the same one or one is blank."""
    asked = [row["question"].strip() for row in (one, other)]
    if not all(asked) or asked[0] == asked[1]:
        return None
    if one["title"] != other["title"]:
        return NOTHING
    return PARAGRAPH if one["context"] == other["context"] else ARTICLE
