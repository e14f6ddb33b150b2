"""EM and F1 by type of question and by length of the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from itrd_nlp.tasks.question_answering.scoring import Rules, rules_of, score

QUESTION_TYPES = ("who", "what", "when", "where", "why", "which", "how many/much", "how", "other")
NO_ANSWER = "no answer"
ANSWER_LENGTHS = ("1", "2", "3-4", "5-8", "9+", NO_ANSWER)

_QUESTION_WORDS = {
    **{name: name for name in QUESTION_TYPES if name.isalpha() and name != "other"},
    **{"whom": "who", "whose": "who"},
}


def question_type(question: str) -> str:
    """The first question word of a question, one of `QUESTION_TYPES`.

    Whom and whose count as who. It is a matter of words alone: "In what year" is a question of the type what.

    Example:
        >>> question_type("In which city did it begin, and when?")
        'which'
        >>> question_type("How many were there?")
        'how many/much'
    """
    words = re.findall("[a-z]+", question.lower())
    for i, word in enumerate(words):
        if word == "how" and words[i + 1 : i + 2] in (["many"], ["much"]):
            return "how many/much"
        if word in _QUESTION_WORDS:
            return _QUESTION_WORDS[word]
    return "other"


def answer_length(answer: str) -> str:
    """The number of words of an answer, split at white space, as one of `ANSWER_LENGTHS`.

    Example:
        >>> answer_length("the Eiffel tower")
        '3-4'
    """
    words = len(answer.split())
    if words <= 2:
        return str(max(words, 1))
    return "3-4" if words <= 4 else "5-8" if words <= 8 else "9+"


def _length_group(answers: list[str]) -> str:
    return answer_length(answers[0]) if answers else NO_ANSWER


def breakdown(
    predictions: Mapping[str, str],
    examples: Iterable[Mapping[str, Any]],
    rules: Rules | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Score answers in groups of questions.

    The mean over the groups, weighted with their numbers of questions, is the score over all questions.

    Args:
        predictions: question id to answer. A question that is missing counts 0.
        examples: rows as `read_squad` returns them. The length of an answer is that of the first reference;
            unanswerable questions are a group by themselves.
        rules: of the data set. Default: `rules_of` the examples.

    Returns:
        ``question_type`` and ``answer_length``, each from the name of a group to its `questions`, and
        `exact_match` and `f1` in percent. In the order of `QUESTION_TYPES` and `ANSWER_LENGTHS`, without those that
        have no question.

    Example:
        >>> row = {"id": "1", "question": "Who?", "answers": {"text": ["Gustave Eiffel"]}}
        >>> breakdown({"1": "Eiffel"}, [row])["question_type"]
        {'who': {'questions': 1, 'exact_match': 0.0, 'f1': 66.66666666666666}}
    """
    rows = list(examples)
    known = rules or rules_of(rows)

    def grouped(
        names: tuple[str, ...], group_of: Callable[[Mapping[str, Any]], str]
    ) -> dict[str, dict[str, float]]:
        references: dict[str, dict[str, list[str]]] = {name: {} for name in names}
        for row in rows:
            references[group_of(row)][row["id"]] = row["answers"]["text"]
        return {
            name: {"questions": len(group), **score(predictions, group, known)}
            for name, group in references.items()
            if group
        }

    return {
        "question_type": grouped(QUESTION_TYPES, lambda row: question_type(row["question"])),
        "answer_length": grouped(ANSWER_LENGTHS, lambda row: _length_group(row["answers"]["text"])),
    }
