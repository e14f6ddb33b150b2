"""Three classification tasks made of SQuAD, for those who have no other data at hand.

`sentence_pairs` is the idea of QNLI (Wang et al. 2018, GLUE): does this sentence hold the answer to this question?
`punctuation_marks` puts back what speech recognition leaves out: which mark follows a word?
`name_spans` are entities: which words of a sentence in lower case are a name?
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from itrd_nlp.tasks.classification.entities import OUTSIDE
from itrd_nlp.tasks.lines import Row

LABELS = ("answered", "not_answered")
COMMA, PERIOD = "COMMA", "PERIOD"
NAME = "NAME"

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_WORD = re.compile(r"\w+|[^\w\s]")
_WORD_WITHOUT_MARKS = re.compile(r"\w+(?:[.,'\u2019-]\w+)*")
_CLOSING = r"[\"')\]]*(?:\s|$)"
_PERIOD, _COMMA = re.compile(r"[.!?]" + _CLOSING), re.compile("," + _CLOSING)


def sentence_pairs(examples: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """A question and a sentence of its context, one row a question: with the answer and without, in turns.

    The sentence without the answer is the one that shares most words with the question. A context of one sentence
    gives a row with the answer in the turn without it, too. An unanswerable question gives none.

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
        # With the first character of the next word, so that the end of a gap is no end of the context.
        ends = [word.start() + 1 for word in words[1:]] + [len(context)]
        gaps = [context[word.end() : end] for word, end in zip(words, ends, strict=True)]
        labels = [
            PERIOD if _PERIOD.search(gap) else COMMA if _COMMA.search(gap) else OUTSIDE
            for gap in gaps
        ]
        yield {"tokens": [word[0].lower() for word in words], "labels": labels}


def name_spans(examples: Iterable[dict[str, Any]], *, seed: int = 0) -> list[Row]:
    """The words and marks of a sentence in lower case, and which of them are a name; one row a sentence.

    A name is a run of words that the text writes with a capital letter. The first word of a sentence has one always, so
    it belongs to a name where the same word has a capital more often than not inside of sentences. The tags are
    ``B-NAME``, ``I-NAME`` and ``O``. Capitals decide, so "German" is a name here, and "the" in "The Hague" is one, too.

    Args:
        examples: rows of `read_squad`.
        seed: of the order of the rows, which are drawn over all articles.
    """
    contexts = dict.fromkeys(example["context"] for example in examples)
    sentences = [
        [word for word in _WORD.findall(text[begin:end])]
        for text in contexts
        for begin, end in _sentences(text)
    ]
    inside = Counter(word for words in sentences for word in words[1:])
    rows = []
    for words in sentences:
        capitals = [word[0].isupper() for word in words]
        if words and capitals[0]:
            first = words[0]
            capitals[0] = inside[first] > inside[first.lower()]
        before = [False, *capitals]
        tags = [
            (f"I-{NAME}" if earlier else f"B-{NAME}") if capital else OUTSIDE
            for earlier, capital in zip(before, capitals, strict=False)
        ]
        if len(words) > 1:
            rows.append({"tokens": [word.lower() for word in words], "labels": tags})
    random.Random(seed).shuffle(rows)
    return rows


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for gap in _SENTENCE_END.finditer(text):
        yield begin, gap.start()
        begin = gap.end()
    yield begin, len(text)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
