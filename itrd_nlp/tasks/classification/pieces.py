"""A text as the words that a model of entities labels, with their place.

A tokenizer says which of its tokens belong to one word, but some cut a text at its spaces alone: a word of theirs holds
the full stop behind it, and is a whole clause of Chinese. A model learns from lists of words, in which marks stand
alone, so a text is cut before it is read.
"""

from __future__ import annotations

from typing import NamedTuple

import regex

from itrd_nlp.tasks.classification.found import Spans

# Scripts that are written without spaces between words. The mark of a long vowel belongs to both kinds of Kana.
_ALONE = r"[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_RUN = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{_ALONE}]+"
_INSIDE = r"(?:[.'\u2019&@_-]|(?<=\p{Nd})[,:/](?=\p{Nd}))"  # as in U.S., O'Neill, AT&T and 1,000
_ANY = r"(?!\s)\X"
_FINE = regex.compile(rf"{_RUN}|{_ANY}", regex.V1)
_COARSE = regex.compile(rf"{_RUN}(?:{_INSIDE}{_RUN})*|{_ANY}", regex.V1)


class Words(NamedTuple):
    """The words of a text.

    Attributes:
        words: as a tokenizer reads them.
        spans: the text, and where the words stand.
    """

    words: list[str]
    spans: Spans


def cut(text: str, *, marks_alone: bool, with_spaces: bool) -> Words:
    """Cut a text into runs of letters and digits, single marks, and single characters of scripts without spaces.

    Args:
        text: the text.
        marks_alone: whether a mark between two letters is a word, too, as it is for a tokenizer that reads it so
            anyway. Else a run goes on behind a single one of ``. ' & @ _ -``, and behind ``, : /`` between digits,
            because a tokenizer would read a space on both sides of the mark.
        with_spaces: whether a word has the space that stands in front of it.

    Example:
        >>> cut("In Berlin.", marks_alone=False, with_spaces=False).words
        ['In', 'Berlin', '.']
    """
    found = (_FINE if marks_alone else _COARSE).finditer(text)
    places = [match.span() for match in found]
    words = [
        " " * (with_spaces and start > 0 and text[start - 1].isspace()) + text[start:end]
        for start, end in places
    ]
    return Words(words, Spans(text, places))
