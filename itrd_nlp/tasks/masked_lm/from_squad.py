"""Plain text made of SQuAD, for those who have no other text at hand: its paragraphs without their questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.masked_lm.data import Row


def text_rows(
    paragraphs: Mapping[str, Sequence[str]], *, held_out: int, seed: int = 0
) -> tuple[list[Row], list[Row]]:
    """The paragraphs to train on, and those of some articles to evaluate on.

    Args:
        paragraphs: those of all articles, see `itrd_nlp.tasks.reranking.from_squad.articles`.
        held_out: number of articles to evaluate on, drawn at random.
        seed: of the draw and of the order. The first so many rows are then of many articles.

    Returns:
        Rows with ``text`` and ``source``, the article. No article is in both lists.

    Raises:
        UserError: there are not so many articles that one is left to train on.
    """
    if held_out >= len(paragraphs):
        raise UserError(
            f"held_out_articles is {held_out}, but there are {len(paragraphs)} articles, of which one must be left to "
            "train on."
        )
    generator = np.random.default_rng(seed)
    titles = sorted(paragraphs)
    chosen = {titles[i] for i in generator.permutation(len(titles))[:held_out]}
    parts: tuple[list[Row], list[Row]] = ([], [])
    for title, texts in paragraphs.items():
        parts[title in chosen].extend({"text": text, "source": title} for text in texts)
    train, validation = ([part[i] for i in generator.permutation(len(part))] for part in parts)
    return train, validation
