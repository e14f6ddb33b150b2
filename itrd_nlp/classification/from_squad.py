"""Two classification tasks made of SQuAD, for those who have no other data at hand.

`sentence_pairs` is the idea of QNLI (Wang et al. 2018, GLUE): does this sentence hold the answer to this question?
`answer_tags` is question answering as tagging: which words of the context are the answer?
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from itrd_nlp.classification.data import Row

LABELS = ("answered", "not_answered")
ANSWER, OUTSIDE = "ANSWER", "O"

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_WORD = re.compile(r"\w+|[^\w\s]")


def sentence_pairs(examples: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """A question and a sentence of its context, one row a question, as many with the answer as without.

    The sentence without the answer is the one that shares most words with the question. A context of one sentence
    gives a row with the answer only.

    Args:
        examples: rows of `read_squad`.
    """
    wanted = True
    for example in examples:
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


def answer_tags(examples: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """The words of a question, which are not judged, and those of its context, tagged ``ANSWER`` or ``O``.

    Args:
        examples: rows of `read_squad`.
    """
    for example in examples:
        begin = example["answers"]["answer_start"][0]
        end = begin + len(example["answers"]["text"][0])
        asked = _WORD.findall(example["question"])
        words = list(_WORD.finditer(example["context"]))
        tags = [ANSWER if w.start() < end and w.end() > begin else OUTSIDE for w in words]
        yield {"tokens": asked + [w[0] for w in words], "labels": [None] * len(asked) + tags}


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for gap in _SENTENCE_END.finditer(text):
        yield begin, gap.start()
        begin = gap.end()
    yield begin, len(text)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
