"""Questions from a file or a pipe, answered one after the other in constant memory."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import Line, read_lines
from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline
from itrd_nlp.tasks.question_answering.read import read_field, read_json

logger = logging.getLogger(__name__)

Question = Line
"""One question: where it stands, and a row with `question`, `context` and, if it has one, `id`."""


def read_questions(source: str | Path) -> Iterator[Question]:
    """Read questions, with or without answers, which are not looked at.

    Args:
        source: a file that ends in `.json`: the nesting of SQuAD, 1.1 or 2.0, read as a whole. Any
            other file, or `-` for stdin: JSON lines, one object with `question`, `context` and
            perhaps `id` per line, read one at a time. Empty lines are skipped.

    Returns:
        The questions, in their order.

    Raises:
        UserError: the file cannot be read (at once), or a line is not such an object (when it is
            its turn).
    """
    path = Path(source)
    if path.suffix == ".json":
        content, _ = read_json(path)
        return _read_squad(content, path)
    return read_lines(source, needs="question and context")


def predict(
    qa: QuestionAnsweringPipeline, questions: Iterable[Question], **options: Any
) -> Iterator[dict[str, Any]]:
    """Answer questions as they come.

    A question that cannot be answered is named in a warning and passed over. A line that cannot be read ends the
    questions. Both are raised when all others are answered.

    Args:
        qa: the pipeline.
        questions: read no further than a batch ahead.
        options: those of a call of the pipeline.

    Yields:
        For each question `id` (if it has one), `question` and the answer: `answer`, `score`,
        `start` and `end`, or with `top_k` above 1 a list `answers` of these.

    Raises:
        UserError: a question could not be answered or read; the message says where it stands.
    """
    waiting: deque[dict[str, Any]] = deque()
    refused: list[UserError] = []
    about_windows = {name: value for name, value in options.items() if name != "batch_size"}

    def inputs() -> Iterator[dict[str, Any]]:
        try:
            for where, row in questions:
                named = {**row, "id": where}
                try:
                    qa.check(named, **about_windows)
                except UserError as error:
                    logger.warning("%s It is passed over.", error)
                    refused.append(error)
                    continue
                waiting.append(row)
                yield named
        except UserError as error:  # of the reader, which has no further question then
            refused.append(error)

    for answer in qa(inputs(), **options):
        row = waiting.popleft()
        asked = {name: row[name] for name in ("id", "question") if name in row}
        yield {**asked, **({"answers": answer} if isinstance(answer, list) else answer)}
    if refused:
        more = f" {len(refused) - 1} more could not be answered." if len(refused) > 1 else ""
        raise UserError(f"{refused[0]}{more}")


def _read_squad(content: Any, path: Path) -> Iterator[Question]:
    for a, article in enumerate(read_field(content, "data", list, f"{path}: ")):
        at_article = f"{path}: data[{a}]."
        for p, paragraph in enumerate(read_field(article, "paragraphs", list, at_article)):
            at_paragraph = f"{at_article}paragraphs[{p}]."
            context = read_field(paragraph, "context", str, at_paragraph)
            for q, qa in enumerate(read_field(paragraph, "qas", list, at_paragraph)):
                at_question = f"{at_paragraph}qas[{q}]."
                row = {name: read_field(qa, name, str, at_question) for name in ("id", "question")}
                yield Question(f"{path}:{row['id']}", {**row, "context": context})
