"""Answers of a classifier in groups, and beside those of its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.data import Row, is_tokens, label_names, label_text
from itrd_nlp.tasks.classification.metrics import OUTSIDE, ClassificationMetrics

_SHOWN_WORDS = 60  # of a row of tokens


def true_labels(row: Row) -> list[str]:
    """The labels of a row that are judged: one of a text, those of tokens that are not null."""
    if "tokens" in row:
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
    found = list(answer) if isinstance(answer, list) else [answer]
    return (found + [None] * len(true))[: len(true)]


def judged_labels(row: Row, answer: Any) -> list[tuple[str, str]]:
    """The true label and the label found, of every label of a row that is judged."""
    pairs = zip(true_labels(row), found_labels(row, answer), strict=True)
    return [(true, found) for true, found in pairs if found is not None]


def row_accuracy(rows: Sequence[Row], answers: Mapping[str, Any]) -> NDArray[np.float64]:
    """The accuracy of each row, scaled so that the mean over rows is the accuracy over all labels.

    Args:
        rows: as `read_rows` returns them.
        answers: number of a row to its label or labels. Tokens that a model has not read do not count.

    Returns:
        ``(rows,)``; from 0 to 1 where each row has one label.
    """
    pairs = [judged_labels(row, answers.get(str(i))) for i, row in enumerate(rows)]
    right = np.array([sum(true == found for true, found in row) for row in pairs], dtype=np.float64)
    return right * (len(rows) / max(sum(map(len, pairs)), 1))


def score_answers(answers: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, float]:
    """Accuracy and F1 of answers in percent, as `ClassificationMetrics` defines them. A missing answer is wrong."""
    names = sorted({*label_names(rows), *_named(answers)})
    ids = {name: i for i, name in enumerate(names)}
    pairs = [pair for i, row in enumerate(rows) for pair in judged_labels(row, answers.get(str(i)))]
    prediction = EvalPrediction(  # a missing label has the number of none
        predictions=np.array([ids.get(found, len(ids)) for _, found in pairs]),
        label_ids=np.array([ids[true] for true, _ in pairs]),
    )
    return ClassificationMetrics(names, tokens=is_tokens(rows))(prediction)


def check_answers(answers: Mapping[str, Any], rows: Sequence[Row], where: str) -> dict[str, Any]:
    """Refuse answers that are no labels of these rows.

    Args:
        answers: number of a row, from 0 on, to its label or labels.
        rows: as `read_rows` returns them.
        where: name of the file, for the sentence.

    Returns:
        The answers. Integers and booleans among the labels are their text, as they are in rows.

    Raises:
        UserError: names the row.
    """
    checked = {}
    for i, row in enumerate(rows):
        answer = answers.get(str(i))
        if answer is None:
            continue
        if not is_tokens(rows):
            label = checked[str(i)] = label_text(answer)
            if not isinstance(label, str):
                raise UserError(
                    f"{where}: the answer to row {i} is {label!r}, but must be a label."
                )
            continue
        count = len(true_labels(row))
        if not isinstance(answer, list) or len(answer) > count:
            shown = f"a list of {len(answer)}" if isinstance(answer, list) else repr(answer)
            raise UserError(
                f"{where}: the answer to row {i} is {shown}, but must be a list of {count} labels at most, one a token "
                "that is judged."
            )
        labels = checked[str(i)] = [label_text(label) for label in answer]
        if not all(label is None or isinstance(label, str) for label in labels):
            raise UserError(f"{where}: the answer to row {i} has something that is no label.")
    if not checked:
        raise UserError(
            f"{where}: none of the {len(answers)} answers has the number of one of the {len(rows)} rows."
        )
    return checked


def _named(answers: Mapping[str, Any]) -> set[str]:
    return {
        str(label)
        for answer in answers.values()
        for label in (answer if isinstance(answer, list) else [answer])
        if label is not None
    }


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


def disagreements(
    student: Mapping[str, Any], teacher: Mapping[str, Any], rows: Sequence[Row], *, show: int = 20
) -> dict[str, Any]:
    """The rows that two models label differently; see `itrd_nlp.publish.report.data.Disagreements`.

    Args:
        student: number of a row to its label or labels.
        teacher: the same of the teacher.
        rows: as `read_rows` returns them.
        show: rows to return, taken at even distances.
    """
    differing = []
    for i, row in enumerate(rows):
        found = {
            who: found_labels(row, answers.get(str(i)))
            for who, answers in (("student", student), ("teacher", teacher))
        }
        if found["student"] != found["teacher"]:
            right = {
                who: all(a == b for a, b in judged_labels(row, answers.get(str(i))))
                for who, answers in (("student", student), ("teacher", teacher))
            }
            differing.append((row, found, right))
    counts = [(right["teacher"], right["student"]) for _, _, right in differing]
    if len(differing) > show:
        differing = [differing[i * len(differing) // show] for i in range(show)]
    return {
        "questions": len(rows),
        "teacher_right": counts.count((True, False)),
        "student_right": counts.count((False, True)),
        "both_right": counts.count((True, True)),
        "neither_right": counts.count((False, False)),
        "examples": [_shown(row, found, right) for row, found, right in differing],
    }


def _shown(
    row: Row, found: Mapping[str, list[str | None]], right: Mapping[str, bool]
) -> dict[str, Any]:
    judged = {
        who: {"text": _text(row, labels), "exact_match": right[who]}
        for who, labels in found.items()
    }
    reference = {"text": _text(row, true_labels(row))}
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


def _text(row: Row, labels: Sequence[str | None]) -> str:
    """Labels in a line: of tokens those that are not the most usual one, with their words."""
    if "tokens" not in row:
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
