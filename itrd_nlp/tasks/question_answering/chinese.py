"""Exact match and F1 of Chinese answers as CMRC 2018 defines them.

The definition of Cui et al., "A Span-Extraction Dataset for Chinese Machine Reading Comprehension" (EMNLP 2019), in the
form of its official evaluation. DRCD is judged by it, too. Each Chinese character is a unit, and F1 counts the longest
run of units that both answers share. The official evaluation cuts what is not Chinese by NLTK. Here numbers, words and
single marks are cut, which is the same but for English contractions and abbreviations.
"""

from __future__ import annotations

import re
from functools import lru_cache

# The marks that the official evaluation drops. Its list has the ellipsis as two characters, which no single one equals.
_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")  # noqa: RUF001
_CHARACTER = re.compile("[\u4e00-\u9fa5]")
_UNITS = re.compile(r"[\u4e00-\u9fa5]|[^\W\u4e00-\u9fa5]+(?:[.,]\d+)*|[^\w\s]")


@lru_cache(maxsize=1 << 16)
def normalize_chinese(text: str) -> str:
    """Reduce an answer to what exact match compares: lower case, without the marks of the definition.

    Example:
        >>> normalize_chinese("《红楼梦》 ")
        '红楼梦'
    """
    return "".join(c for c in text.lower().strip() if c not in _MARKS)


@lru_cache(maxsize=1 << 16)
def units(text: str) -> tuple[str, ...]:
    """The units that F1 counts.

    Example:
        >>> units("1949年由BBC")
        ('1949', '年', '由', 'bbc')
    """
    return tuple(_UNITS.findall(normalize_chinese(text)))


def f1(prediction: str, truth: str) -> float:
    """Harmonic mean of precision and recall of the longest common run of units, from 0.0 to 1.0.

    Without a common unit it is 0, even if both are empty.
    """
    predicted, true = units(prediction), units(truth)
    common = _longest_common_run(predicted, true)
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(true)
    return 2 * precision * recall / (precision + recall)


def is_chinese(text: str) -> bool:
    """Whether a text holds a Chinese character."""
    return _CHARACTER.search(text) is not None


def _longest_common_run(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Length of the longest run of units that both have, by the recurrence over pairs of ends."""
    longest, before = 0, [0] * (len(second) + 1)
    for unit in first:
        row = [0] * (len(second) + 1)
        for j, other in enumerate(second):
            if unit == other:
                row[j + 1] = before[j] + 1
        longest, before = max(longest, *row), row
    return longest
