"""Scores of examples in groups, such as those of texts with few words, as the report shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Score = Callable[[list[int]], dict[str, float]]
"""From the numbers of some examples to their scores in percent; empty where they have none."""

QUERY_WORDS = (5, 10, 15)
"""The most words of the groups of queries. One more group has all that are longer."""


def grouped(
    groups: Sequence[str], names: Sequence[str], score: Score
) -> dict[str, dict[str, float]]:
    """The number of examples and the scores of each group.

    Args:
        groups: the group of each example.
        names: the groups in the order to show them. One without scores is left out.
        score: the scores of some examples.
    """
    found: dict[str, dict[str, float]] = {}
    for name in names:
        part = [i for i, group in enumerate(groups) if group == name]
        scores = score(part) if part else {}
        if scores:
            found[name] = {"questions": len(part)} | scores
    return found


def by_words(
    texts: Sequence[str], most: Sequence[int], score: Score
) -> dict[str, dict[str, float]]:
    """The scores of texts in groups by their number of words. See `grouped`.

    Args:
        texts: one an example.
        most: the most words of each group but the last, from small to large.
        score: the scores of some texts.
    """
    least = [1, *(count + 1 for count in most)]
    names = [f"{low} to {high}" for low, high in zip(least, most, strict=False)]
    names.append(f"{least[-1]} or more")
    places = np.searchsorted(most, [len(text.split()) for text in texts]).tolist()
    return grouped([names[place] for place in places], names, score)


def means_of(scores: Mapping[str, NDArray[np.floating]]) -> Score:
    """The mean scores of some examples in percent.

    Args:
        scores: name of a metric to the score of each example, 1 for 100 percent.
    """

    def means(part: list[int]) -> dict[str, float]:
        return {metric: 100 * float(values[part].mean()) for metric, values in scores.items()}

    return means
