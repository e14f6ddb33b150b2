"""More questions without answers, made of those at hand, for a teacher to label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from itrd_nlp.errors import UserError


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


def squad_json(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rows without answers in the form of the official files, which `read_squad(answers=False)` reads."""
    articles: dict[str, dict[str, list[dict[str, str]]]] = {}
    for row in rows:
        paragraph = articles.setdefault(row["title"], {}).setdefault(row["context"], [])
        paragraph.append({"id": row["id"], "question": row["question"]})
    data = [
        {"title": title, "paragraphs": [{"context": c, "qas": qas} for c, qas in contexts.items()]}
        for title, contexts in articles.items()
    ]
    return {"version": "1.1", "data": data}
