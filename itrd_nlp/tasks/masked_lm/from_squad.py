"""Plain text made of SQuAD, for those who have no other text at hand: its paragraphs without their questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import Row


def text_rows(
    paragraphs: Mapping[str, Sequence[str]], *, held_out: float = 0.05, seed: int = 0
) -> tuple[list[Row], list[Row]]:
    """The paragraphs to train on, and those of some articles to evaluate on.

    Args:
        paragraphs: those of all articles, see `itrd_nlp.tasks.reranking.from_squad.articles`.
        held_out: share of the articles to evaluate on, drawn at random, from 0 to 1. Where it is less than one article,
            the same share of the paragraphs is drawn, and at least one.
        seed: of the draw and of the order. The first so many rows are then of many articles.

    Returns:
        Rows with ``text`` and ``source``, the article.

    Raises:
        UserError: there is one paragraph alone.
    """
    generator = np.random.default_rng(seed)
    titles = sorted(paragraphs)
    chosen = {titles[i] for i in generator.permutation(len(titles))[: int(held_out * len(titles))]}
    parts: tuple[list[Row], list[Row]] = ([], [])
    for title, texts in paragraphs.items():
        parts[title in chosen].extend({"text": text, "source": title} for text in texts)
    train, validation = ([part[i] for i in generator.permutation(len(part))] for part in parts)
    if not chosen:
        if len(train) < 2:
            raise UserError(
                "there is one paragraph alone, so that none is left to train on or to judge on."
            )
        count = max(1, int(held_out * len(train)))
        train, validation = train[count:], train[:count]
    return train, validation
