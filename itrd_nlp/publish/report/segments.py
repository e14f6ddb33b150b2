"""A context cut into pieces, so that the answers in it can be marked."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import NamedTuple

from itrd_nlp.publish.report.data import Disagreement


class Segment(NamedTuple):
    """A piece of a context, the models whose answers hold it, and the models whose answers begin with it."""

    text: str
    roles: list[str]
    begins: list[str]


def segments(case: Disagreement) -> list[Segment]:
    """Cut a context where an answer of the reference, the teacher or the student begins or ends.

    References are marked at their place. Of a prediction the text alone is recorded, so it is marked wherever it
    stands. Where answers are no pieces of the context nothing is marked.
    """
    if not case.located:
        return [Segment(case.context, [], [])] if case.context else []
    spans = [
        ("reference", r.start, r.start + len(r.text))
        for r in case.references
        if r.start is not None
    ]
    for role in ("teacher", "student"):
        text = getattr(case, role).text
        spans += [(role, start, start + len(text)) for start in _occurrences(text, case.context)]
    length = len(case.context)
    spans = [(role, start, min(end, length)) for role, start, end in spans if start < length]
    changes: dict[int, Counter[str]] = {0: Counter(), length: Counter()}
    for role, start, end in spans:
        changes.setdefault(start, Counter())[role] += 1
        changes.setdefault(end, Counter())[role] -= 1
    result = []
    before: set[str] = set()
    open_spans: Counter[str] = Counter()
    for start, end in itertools.pairwise(sorted(changes)):
        open_spans.update(changes[start])
        roles = {role for role, number in open_spans.items() if number > 0}
        begins = sorted(roles - before)
        result.append(Segment(case.context[start:end], sorted(roles), begins))
        before = roles
    return result


def _occurrences(text: str, context: str) -> list[int]:
    """The characters at which a text begins in a context: as whole words, if it stands there so anywhere."""
    if not text:
        return []
    found = re.escape(text)
    whole = [match.start() for match in re.finditer(rf"(?<!\w){found}(?!\w)", context)]
    return whole or [match.start() for match in re.finditer(found, context)]
