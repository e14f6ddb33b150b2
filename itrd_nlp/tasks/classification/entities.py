"""Entities in a row of tags, as seqeval and the script conlleval of CoNLL-2000 read them.

Tags are IOB2 (``B-PER I-PER O``), IOB1 (``B-`` between neighbours of one type alone) or IOBES. A row that breaks the
rules of its scheme is read, too: a model writes such rows. seqeval itself is not used, because a comparison needs the
counts of each row and seqeval returns the score of all of them (`CONTRIBUTING.md`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
_TAG = re.compile(r"[BIES]-.+|O", re.DOTALL)
_IOB = re.compile(r"[BI]-.+|O", re.DOTALL)


class Entity(NamedTuple):
    """An entity of a row.

    Attributes:
        type: such as ``PER``.
        start: number of its first token.
        end: number of the token after its last one.
    """

    type: str
    start: int
    end: int


def is_tag(label: str) -> bool:
    """Whether a label is ``O``, or ``B-``, ``I-``, ``E-`` or ``S-`` and a type."""
    return _TAG.fullmatch(label) is not None


def are_tags(labels: Iterable[str]) -> bool:
    """Whether labels are tags of entities: ``O``, or ``B-``, ``I-``, ``E-`` or ``S-`` and a type, not all ``O``."""
    names = set(labels)
    return bool(names - {OUTSIDE}) and all(map(is_tag, names))


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a row of tags.

    An entity begins at ``B-`` and ``S-``, after ``O``, ``E-`` and ``S-``, and where the type changes. It ends before
    the next one and before ``O``.

    Args:
        tags: one a token. A text that is no tag counts as ``O``.
    """
    found: list[Entity] = []
    scheme, kind, start = OUTSIDE, "", 0
    for at, tag in enumerate([*tags, OUTSIDE]):
        inside = tag != OUTSIDE and is_tag(tag)
        new_scheme, new_kind = (tag[0], tag[2:]) if inside else (OUTSIDE, "")
        begins = inside and (new_scheme in "BS" or scheme in "OES" or new_kind != kind)
        if scheme != OUTSIDE and (begins or not inside):
            found.append(Entity(kind, start, at))
        if begins:
            start = at
        scheme, kind = new_scheme, new_kind
    return found


def as_iob2(tags: Sequence[str]) -> list[str]:
    """Tags of IOB1, or of a broken IOB2, as IOB2 with the same entities. Tags of another scheme stay as they are."""
    if not all(_IOB.fullmatch(tag) for tag in tags):
        return list(tags)
    written = [OUTSIDE] * len(tags)
    for entity in entities(tags):
        written[entity.start : entity.end] = [f"I-{entity.type}"] * (entity.end - entity.start)
        written[entity.start] = f"B-{entity.type}"
    return written


def inside_tag(tag: str, known: Iterable[str]) -> str:
    """The tag of the later parts of a word with this tag: ``I-PER`` after ``B-PER``, where the labels have it."""
    inside = f"I-{tag[2:]}"
    return inside if tag.startswith("B-") and inside in known else tag
