"""More questions, made of those at hand: for a teacher to label, or that their context does not answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.scoring import normalize_answer


def ask_elsewhere(
    examples: Iterable[dict[str, Any]], *, per_question: int = 1, seed: int = 0
) -> list[dict[str, Any]]:
    """Ask each question about other contexts of its article.

    The answer is rarely there, but the words are of the same field, so that a teacher's hidden states and logits say
    something about them. No text is made up.

    Args:
        examples: rows of `read_squad`; a row without a title belongs to no article and is left out.
        per_question: contexts that are drawn for each question; an article with fewer others gives what it has.
        seed: seed of the draw.

    Returns:
        Rows with the columns `id` (that of the question and a number), `title`, `context` and `question`.

    Raises:
        UserError: ``per_question`` is below 1.
    """
    if per_question < 1:
        raise UserError(f"per_question is {per_question}, but must be at least 1.")
    rows = [
        {name: row[name] for name in ("id", "title", "context", "question")}
        for row in examples
        if row["title"]
    ]
    contexts_of: dict[str, dict[str, None]] = {}  # an ordered set
    for row in rows:
        contexts_of.setdefault(row["title"], {})[row["context"]] = None
    generator = np.random.default_rng(seed)
    asked = []
    for row in rows:
        others = [context for context in contexts_of[row["title"]] if context != row["context"]]
        for number, i in enumerate(generator.permutation(len(others))[:per_question], start=1):
            asked.append({**row, "id": f"{row['id']}-{number}", "context": others[i]})
    return asked


def ask_in_vain(
    examples: Iterable[dict[str, Any]], *, share: float = 0.5, seed: int = 0
) -> list[dict[str, Any]]:
    """Ask some of the questions about another context of their article that does not hold the answer.

    The known construction of unanswerable questions without a person who writes them. Such a context holds none of the
    true answers, letter by letter after the normalisation of exact match; it may still answer the question in other
    words. Each question occurs once, with its own context or with another.

    Args:
        examples: rows of `read_squad`; a row without a title belongs to no article and keeps its context.
        share: share of the questions that are to be unanswerable, drawn at random. A question whose article has no
            other context without its answer keeps its own.
        seed: seed of both draws.

    Returns:
        Rows with the columns of `read_squad`, in their order. The unanswerable ones have no answers, and an id that
        ends in ``-in-vain``.

    Raises:
        UserError: ``share`` is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UserError(f"share is {share}, but must be from 0 to 1.")
    rows = list(examples)
    contexts_of: dict[str, dict[str, str]] = {}  # each with its normalised text, in an ordered set
    for row in rows:
        if row["title"] and row["context"] not in contexts_of.setdefault(row["title"], {}):
            contexts_of[row["title"]][row["context"]] = normalize_answer(row["context"])
    generator = np.random.default_rng(seed)
    drawn = set(generator.permutation(len(rows))[: round(share * len(rows))].tolist())
    asked = []
    for number, row in enumerate(rows):
        others: list[str] = []
        if number in drawn and row["answers"]["text"]:
            answers = [normalize_answer(text) for text in row["answers"]["text"]]
            others = [
                context
                for context, text in contexts_of.get(row["title"], {}).items()
                if context != row["context"] and not any(answer in text for answer in answers)
            ]
        if not others:
            asked.append(row)
            continue
        context = others[int(generator.integers(len(others)))]
        nothing: dict[str, list[Any]] = {"text": [], "answer_start": []}
        asked.append({**row, "id": f"{row['id']}-in-vain", "context": context, "answers": nothing})
    return asked


def squad_json(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rows in the form of the official files, which `read_squad` reads.

    Args:
        rows: with the columns of `read_squad`. Without a column ``answers`` the file has the form of SQuAD 1.1 without
            answers, else that of SQuAD 2.0.
    """
    version = "1.1"
    articles: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        paragraph = articles.setdefault(row["title"], {}).setdefault(row["context"], [])
        qa: dict[str, Any] = {"id": row["id"], "question": row["question"]}
        if "answers" in row:
            version = "v2.0"
            pairs = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
            qa["answers"] = [{"text": text, "answer_start": start} for text, start in pairs]
            qa["is_impossible"] = not qa["answers"]
        paragraph.append(qa)
    data = [
        {"title": title, "paragraphs": [{"context": c, "qas": qas} for c, qas in contexts.items()]}
        for title, contexts in articles.items()
    ]
    return {"version": version, "data": data}
