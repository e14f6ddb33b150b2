"""Answers of student and teacher side by side, for the report of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from itrd_nlp.tasks.disagreements import count_disagreements
from itrd_nlp.tasks.question_answering.scoring import Rules, best_scores, rules_of


def disagreements(
    student: Mapping[str, str],
    teacher: Mapping[str, str],
    examples: Iterable[Mapping[str, Any]],
    rules: Rules | None = None,
    *,
    show: int = 20,
) -> dict[str, Any]:
    """The questions to which two models give answers that differ after normalisation.

    Args:
        student: question id to answer; a missing one is "".
        teacher: likewise.
        examples: rows as `read_squad` returns them.
        rules: of the data set. Default: `rules_of` the examples.
        show: how many questions to return. Taken at even distances, in the order of `examples`.

    Returns:
        ``questions``: how many there are; ``teacher_right``, ``student_right``, ``both_right`` and ``neither_right``:
        how many of the differing ones were an exact match of whom alone; ``examples``: `show` of them, each with
        both answers, their scores, references and context.
    """
    differing = []
    rows = list(examples)
    known = rules or rules_of(rows)
    for row in rows:
        answers = {"student": student.get(row["id"], ""), "teacher": teacher.get(row["id"], "")}
        if len({known.normalize(text) for text in answers.values()}) > 1:
            differing.append(
                (row, {who: _judged(row, text, known) for who, text in answers.items()})
            )
    return count_disagreements(
        differing,
        len(rows),
        right=lambda one: (one[1]["teacher"]["exact_match"], one[1]["student"]["exact_match"]),
        shown=lambda one: _shown(*one),
        show=show,
    )


def _shown(row: Mapping[str, Any], answers: dict[str, Any]) -> dict[str, Any]:
    references = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
    return {
        "question": row["question"],
        "context": row["context"],
        "references": [{"text": text, "start": start} for text, start in references],
        **answers,
    }


def _judged(row: Mapping[str, Any], text: str, rules: Rules) -> dict[str, Any]:
    match, f1 = best_scores(text, row["answers"]["text"], rules)
    return {"text": text, "exact_match": match == 1, "f1": 100.0 * f1}
