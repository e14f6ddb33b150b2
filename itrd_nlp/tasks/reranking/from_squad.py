"""Queries with passages made of SQuAD, for those who have no other data at hand.

A question is the query. Its own paragraph is relevant, and the others of its article are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import Row

_WORD = re.compile(r"\w+")


def articles(examples: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The paragraphs of each article, in the order of the file.

    Args:
        examples: rows of `read_squad`.
    """
    found: dict[str, dict[str, None]] = {}
    for example in examples:
        found.setdefault(example["title"], {})[example["context"]] = None
    return {title: list(paragraphs) for title, paragraphs in found.items()}


def ranking_rows(
    examples: Sequence[dict[str, Any]],
    paragraphs: dict[str, list[str]],
    *,
    most: int,
    seed: int = 0,
) -> Iterator[Row]:
    """A question with its own paragraph and others of its article, one row a question.

    The others are those that share most words with the question, so that they are not told apart at once. The order is
    drawn, so that it says nothing. Articles with one paragraph give no row.

    Args:
        examples: rows of `read_squad`.
        paragraphs: those of all articles, see `articles`.
        most: number of passages of a query at most, from 2 on.
        seed: of the order.

    Raises:
        UserError: no article has two paragraphs.
    """
    generator = np.random.default_rng(seed)
    words = {text: _words(text) for texts in paragraphs.values() for text in texts}
    count = 0
    for example in examples:
        asked, own = _words(example["question"]), example["context"]
        others = [text for text in paragraphs[example["title"]] if text != own]
        if not others or not asked:
            continue
        others.sort(key=lambda text: -len(asked & words[text]))
        passages = [own, *others[: most - 1]]
        order = generator.permutation(len(passages)).tolist()
        count += 1
        yield {
            "query": example["question"].strip(),
            "passages": [passages[i] for i in order],
            "labels": [int(i == 0) for i in order],
            "source": example["title"],
        }
    if not count:
        raise UserError(
            "no article has two paragraphs, so no question has passages to choose from."
        )


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
