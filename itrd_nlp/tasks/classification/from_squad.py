"""Two classification tasks made of SQuAD, for those who have no other data at hand.

`sentence_pairs` is the idea of QNLI (Wang et al. 2018, GLUE): does this sentence hold the answer to this question?
`punctuation_marks` puts back what speech recognition leaves out: which mark follows a word?
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from itrd_nlp.tasks.classification.data import Row

LABELS = ("answered", "not_answered")
COMMA, PERIOD, OUTSIDE = "COMMA", "PERIOD", "O"

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_WORD = re.compile(r"\w+|[^\w\s]")
_WORD_WITHOUT_MARKS = re.compile(r"\w+(?:[.,'\u2019-]\w+)*")
_CLOSING = r"[\"')\]]*(?:\s|$)"
_PERIOD, _COMMA = re.compile(r"[.!?]" + _CLOSING), re.compile("," + _CLOSING)


def sentence_pairs(examples: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """A question and a sentence of its context, one row a question, as many with the answer as without.

    The sentence without the answer is the one that shares most words with the question. A context of one sentence
    gives a row with the answer only. An unanswerable question gives none.

    Args:
        examples: rows of `read_squad`.
    """
    wanted = True
    for example in examples:
        if not example["answers"]["text"]:  # of SQuAD 2.0
            continue
        context, question = example["context"], example["question"]
        begin = example["answers"]["answer_start"][0]
        end = begin + len(example["answers"]["text"][0])
        spans = list(_sentences(context))
        others = [(a, b) for a, b in spans if b <= begin or a >= end]
        if wanted or not others:
            held = [(a, b) for a, b in spans if a < end and b > begin]
            text = context[held[0][0] : held[-1][1]]
        else:
            asked = set(_words(question))
            a, b = max(others, key=lambda span: len(asked & set(_words(context[slice(*span)]))))
            text = context[a:b]
        label = LABELS[0] if wanted or not others else LABELS[1]
        yield {"text": question, "text_pair": text.strip(), "label": label}
        wanted = not wanted


def punctuation_marks(examples: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """The words of a context in lower case and without its marks, and which mark followed each; one row a context.

    The labels are ``COMMA``, ``PERIOD`` (also for ! and ?) and ``O``. A mark without a space after it, as in a
    number, is none.

    Args:
        examples: rows of `read_squad`.
    """
    seen: set[str] = set()
    for example in examples:
        context = example["context"]
        words = list(_WORD_WITHOUT_MARKS.finditer(context))
        if context in seen or not words:
            continue
        seen.add(context)
        ends = [word.start() for word in words[1:]] + [len(context)]
        gaps = [context[word.end() : end] for word, end in zip(words, ends, strict=True)]
        labels = [
            PERIOD if _PERIOD.search(gap) else COMMA if _COMMA.search(gap) else OUTSIDE
            for gap in gaps
        ]
        yield {"tokens": [word[0].lower() for word in words], "labels": labels}


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for gap in _SENTENCE_END.finditer(text):
        yield begin, gap.start()
        begin = gap.end()
    yield begin, len(text)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
