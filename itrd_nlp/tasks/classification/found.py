"""The findings of a model in one text: a label, labels, a number, or entities with their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from torch import Tensor

from itrd_nlp.tasks.classification.entities import OUTSIDE, entities


class Spans(NamedTuple):
    """A text, and where its words stand.

    Attributes:
        text: the text.
        words: of each word its first character and the one after its last.
    """

    text: str
    words: list[tuple[int, int]]

    @classmethod
    def of(cls, tokens: Sequence[str]) -> Self:
        """The text of words that are given alone: they are joined by one space."""
        words, start = [], 0
        for token in tokens:
            words.append((start, start + len(token)))
            start += len(token) + 1
        return cls(" ".join(tokens), words)


def label_of_text(logits: Tensor, names: Sequence[str], problem_type: str | None) -> dict[str, Any]:
    """The label of a text, by what the head of the model is for.

    Args:
        logits: ``(C,)``.
        names: of the C labels.
        problem_type: of the configuration. None is one label, and a number where there is one logit alone.

    Returns:
        ``label`` and ``score``; ``labels`` and ``scores`` of several labels; ``label``, a number, of a regression.
    """
    if problem_type == "regression" or (problem_type is None and len(names) == 1):
        return {"label": float(logits[0])}
    if problem_type == "multi_label_classification":
        each = zip(names, logits.sigmoid().tolist(), strict=True)
        held = [(name, score) for name, score in each if score >= 0.5]
        return {"labels": [name for name, _ in held], "scores": [score for _, score in held]}
    probabilities = logits.softmax(dim=-1)
    best = int(probabilities.argmax())
    return {"label": names[best], "score": float(probabilities[best])}


def found_entities(
    labels: Sequence[str | None], scores: Sequence[float | None], spans: Spans
) -> list[dict[str, Any]]:
    """The entities of a row of tags with their place.

    Args:
        labels: one a word, null where it was not read, which counts as ``O``.
        scores: the probability of each.
        spans: where the words stand.

    Returns:
        For each entity ``type``, ``text``, ``start`` and ``end`` (characters), and ``score``, the mean of its words.
    """
    found = []
    for kind, first, after in entities([label or OUTSIDE for label in labels]):
        start, end = spans.words[first][0], spans.words[after - 1][1]
        of_words = [score for score in scores[first:after] if score is not None]
        found.append(
            {
                "type": kind,
                "text": spans.text[start:end],
                "start": start,
                "end": end,
                "score": sum(of_words) / len(of_words),
            }
        )
    return found
