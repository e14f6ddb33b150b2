"""The examples that two models answer differently, counted by who is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


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
