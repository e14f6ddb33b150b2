"""Answers of a classifier in groups, and beside those of its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.data import (
    kind_of,
    label_names,
    label_text,
)
from itrd_nlp.tasks.classification.entities import OUTSIDE, are_tags, entities
from itrd_nlp.tasks.disagreements import count_disagreements
from itrd_nlp.tasks.lines import Row, finite

ENTITY_F1 = "entity_f1"
_SHOWN_WORDS = 60  # of a row of tokens


def true_labels(row: Row) -> list[str]:
    """The labels of a row that are judged: one of a text or several, those of tokens that are not null."""
    if "labels" in row:
        return [label for label in row["labels"] if label is not None]
    return [row["label"]]


def found_labels(row: Row, answer: Any) -> list[str | None]:
    """The labels of an answer beside `true_labels`.

    None is a token that the model has not read: it was cut off with the end of the text, or the tokenizer makes nothing
    of it. Such a token is not judged. Every label of a row without an answer is ``""``, which is judged and wrong.
    """
    true = true_labels(row)
    if answer is None:
        return [""] * len(true)
    return list(answer) if isinstance(answer, list) else [answer]


def judged_labels(row: Row, answer: Any) -> list[tuple[str, str]]:
    """The true label and the label found, of every label of a row that is judged."""
    pairs = zip(true_labels(row), found_labels(row, answer), strict=True)
    return [(true, found) for true, found in pairs if found is not None]


def check_answers(answers: Mapping[str, Any], rows: Sequence[Row], where: str) -> dict[str, Any]:
    """Refuse answers that are no labels of these rows.

    Args:
        answers: number of a row, from 0 on, to its label, labels or number.
        rows: as `read_rows` returns them.
        where: name of the file, for the sentence.

    Returns:
        The answers. Integers and booleans among the labels are their text, as they are in rows.

    Raises:
        UserError: names the row.
    """
    checked = {}
    for i in range(len(rows)):
        if answers.get(str(i)) is not None:
            checked[str(i)] = _checked(answers[str(i)], rows, i, where)
    if not checked:
        raise UserError(
            f"{where}: none of the {len(answers)} answers has the number of one of the {len(rows)} rows."
        )
    return checked


def _checked(answer: Any, rows: Sequence[Row], i: int, where: str) -> Any:
    """One answer of `check_answers`."""
    kind = kind_of(rows)
    if kind == "value":
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            raise UserError(f"{where}: the answer to row {i} is {answer!r}, but must be a number.")
        number = finite(answer)
        if number is None:
            raise UserError(
                f"{where}: the answer to row {i} is {answer!r}, but must be a finite number."
            )
        return number
    if kind == "label":
        label = label_text(answer)
        if not isinstance(label, str):
            raise UserError(f"{where}: the answer to row {i} is {label!r}, but must be a label.")
        return label
    if kind == "labels":
        if not isinstance(answer, list):
            raise UserError(
                f"{where}: the answer to row {i} is {answer!r}, but must be a list of labels."
            )
    else:
        count = len(true_labels(rows[i]))
        if not isinstance(answer, list) or len(answer) != count:
            found = f"a list of {len(answer)}" if isinstance(answer, list) else repr(answer)
            raise UserError(
                f"{where}: the answer to row {i} is {found}, but must be a list of {count}, with a label for each "
                "judged token and null for one that the model has not read."
            )
    labels = [label_text(label) for label in answer]
    unread = kind == "tokens"  # null is a token that was not read
    if not all(isinstance(label, str) or (unread and label is None) for label in labels):
        raise UserError(f"{where}: the answer to row {i} has something that is no label.")
    return labels


def groups_of(
    answers: Mapping[str, Any], rows: Sequence[Row], metrics: Mapping[str, str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by groups of labels, see `itrd_nlp.publish.report.data.Groups`.

    Args:
        answers: number of a row to its answer.
        rows: as `read_rows` returns them.
        metrics: the metrics of the rows. With those of entities the types of entities are groups, too.

    Returns:
        By ``label``: how many of it are found (accuracy), and its F1, in percent. By ``type``: precision, recall and F1
        of the entities. Nothing where the labels are numbers.
    """
    kind = kind_of(rows)
    if kind == "value":
        return {}
    if kind == "labels":
        return {"label": _by_one_of_several(answers, rows)}
    groups = {"label": breakdown(answers, rows)}
    if ENTITY_F1 in metrics and are_tags(label_names(rows)):
        groups = {"type": _by_type(answers, rows), **groups}
    return groups


def breakdown(answers: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Scores by the true label: how many of it are found (accuracy), and its F1, in percent."""
    pairs = [pair for i, row in enumerate(rows) for pair in judged_labels(row, answers.get(str(i)))]
    groups = {}
    for name in sorted({true for true, _ in pairs}):
        of_it = sum(true == name for true, _ in pairs)
        right = sum(true == found == name for true, found in pairs)
        named = of_it + sum(found == name for _, found in pairs)
        groups[name] = {
            "questions": of_it,
            "accuracy": 100 * right / of_it,
            "f1": 100 * 2 * right / named,
        }
    return groups


def _by_one_of_several(
    answers: Mapping[str, Any], rows: Sequence[Row]
) -> dict[str, dict[str, float]]:
    """Each label by itself: the share of rows in which it is right, and its F1 under both names."""
    groups = {}
    found = [set(answers.get(str(i)) or []) for i in range(len(rows))]
    for name in label_names(rows):
        pairs = [(name in row["labels"], name in one) for row, one in zip(rows, found, strict=True)]
        both = sum(a and b for a, b in pairs)
        f1 = 100 * 2 * both / sum(a + b for a, b in pairs)
        right = 100 * sum(a == b for a, b in pairs) / len(pairs)
        groups[name] = {
            "questions": sum(a for a, _ in pairs),
            "accuracy": right,
            "micro_f1": f1,
            "macro_f1": f1,
        }
    return groups


def _by_type(answers: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """The types of entities that occur: precision, recall and F1 in percent."""
    counts: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        pairs = judged_labels(row, answers.get(str(i)))
        true, found = (set(entities([pair[side] for pair in pairs])) for side in range(2))
        for number, some in enumerate((true & found, found, true)):
            for entity in some:
                counts.setdefault(entity.type, [0, 0, 0])[number] += 1
    return {
        name: {
            "questions": true,
            "entity_f1": 100 * 2 * right / (found + true),
            "entity_precision": 100 * right / found if found else 0.0,
            "entity_recall": 100 * right / true,
        }
        for name, (right, found, true) in sorted(counts.items())
        if true
    }


def disagreements(
    student: Mapping[str, Any], teacher: Mapping[str, Any], rows: Sequence[Row], *, show: int = 20
) -> dict[str, Any]:
    """The rows that two models label differently; see `itrd_nlp.publish.report.data.Disagreements`.

    Numbers differ where they are further from each other than a tenth of the range of the true ones, and are right
    where they are no further from the true one.

    Args:
        student: number of a row to its answer.
        teacher: the same of the teacher.
        rows: as `read_rows` returns them.
        show: rows to return, taken at even distances.
    """
    tolerance = _tolerance(rows)
    differing = []
    for i, row in enumerate(rows):
        found = {"student": student.get(str(i)), "teacher": teacher.get(str(i))}
        if not _same(row, found["student"], found["teacher"], tolerance):
            right = {who: _is_right(row, one, tolerance) for who, one in found.items()}
            differing.append((row, found, right))
    return count_disagreements(
        differing,
        len(rows),
        right=lambda one: (one[2]["teacher"], one[2]["student"]),
        shown=lambda one: _shown(*one),
        show=show,
    )


def _tolerance(rows: Sequence[Row]) -> float:
    if kind_of(rows) != "value":
        return 0.0
    true = [row["label"] for row in rows]
    return float(max(true) - min(true)) / 10


def _same(row: Row, one: Any, other: Any, tolerance: float) -> bool:
    kind = kind_of([row])
    if kind in ("label", "tokens"):
        return found_labels(row, one) == found_labels(row, other)
    if one is None or other is None or kind == "labels":
        return bool(one == other)
    return abs(float(one) - float(other)) <= tolerance


def _is_right(row: Row, answer: Any, tolerance: float) -> bool:
    kind = kind_of([row])
    if kind in ("label", "tokens"):
        return all(a == b for a, b in judged_labels(row, answer))
    if answer is None or kind == "labels":
        return bool(answer == row["labels"])
    return abs(float(answer) - float(row["label"])) <= tolerance


def _shown(row: Row, found: Mapping[str, Any], right: Mapping[str, bool]) -> dict[str, Any]:
    judged = {
        who: {"text": _text(row, answer), "exact_match": right[who]}
        for who, answer in found.items()
    }
    true = row["label"] if kind_of([row]) in ("label", "value") else None
    reference = {"text": _text(row, true_labels(row) if true is None else true)}
    if "tokens" in row:
        words = row["tokens"]
        text = " ".join(words[:_SHOWN_WORDS]) + (" ..." if len(words) > _SHOWN_WORDS else "")
    else:
        text = row["text"]
    return {
        "question": text,
        "context": row.get("text_pair", ""),
        "references": [reference],
    } | judged


def _text(row: Row, answer: Any) -> str:
    """An answer in a line: of tokens the labels that are not the most usual one, with their words."""
    kind = kind_of([row])
    if kind == "value":
        return "" if answer is None else f"{float(answer):.6g}"
    if kind == "labels":
        return "" if answer is None else ", ".join(answer) or "no label"
    labels = found_labels(row, answer)
    if kind == "label":
        return str(labels[0])
    words = [
        word for word, label in zip(row["tokens"], row["labels"], strict=True) if label is not None
    ]
    named = [
        f"{word}/{label}"
        for word, label in zip(words, labels, strict=True)
        if label not in (OUTSIDE, None)
    ]
    return " ".join(named[:_SHOWN_WORDS]) or f"{OUTSIDE} everywhere"
