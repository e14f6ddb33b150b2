"""The examples that two models answer differently, counted by who is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


SHOWN = 300
"""Most characters of a text that are shown."""


def count_disagreements(
    differing: Sequence[T],
    total: int,
    *,
    right: Callable[[T], tuple[bool, bool]],
    shown: Callable[[T], dict[str, Any]],
    show: int = 20,
) -> dict[str, Any]:
    """The content of `itrd_nlp.publish.report.data.Disagreements`.

    Args:
        differing: the examples that two models answer differently.
        total: number of all examples.
        right: from one of them to whether the teacher is right, and whether the student is.
        shown: from one of them to an entry of ``examples``.
        show: number of entries, taken at even distances.
    """
    counts = [right(one) for one in differing]
    kept = list(differing)
    if len(kept) > show:
        kept = [kept[i * len(kept) // show] for i in range(show)]
    return {
        "questions": total,
        "teacher_right": counts.count((True, False)),
        "student_right": counts.count((False, True)),
        "both_right": counts.count((True, True)),
        "neither_right": counts.count((False, False)),
        "examples": [shown(one) for one in kept],
    }


Case = tuple[str, Sequence[str], Sequence[str], Sequence[bool]]
"""An example, its true answers, the answers of student and teacher, and whether they are right."""


def compared(cases: Sequence[Case], count: int, *, show: int = 20) -> dict[str, Any]:
    """The content of `itrd_nlp.publish.report.data.Disagreements`.

    Args:
        cases: the examples that two models answer differently.
        count: number of all examples.
        show: examples to return, taken at even distances.
    """
    return count_disagreements(
        cases, count, right=lambda case: (case[3][1], case[3][0]), shown=_shown, show=show
    )


def _shown(case: Case) -> dict[str, Any]:
    question, true, texts, right = case
    return {
        "question": question,
        "context": "",
        "references": [{"text": short(text)} for text in true[:3]],
        "student": {"text": short(texts[0]), "exact_match": bool(right[0])},
        "teacher": {"text": short(texts[1]), "exact_match": bool(right[1])},
    }


def short(text: str) -> str:
    """The first `SHOWN` characters of a text."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
