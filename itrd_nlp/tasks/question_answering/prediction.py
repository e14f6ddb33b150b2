"""Questions from a file or a pipe, answered one after the other in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.lines import Line, Refuse, ending_of, read_lines, stop
from itrd_nlp.tasks.question_answering.pipeline import QuestionAnsweringPipeline
from itrd_nlp.tasks.question_answering.read import read_field, read_json_and_digest


def read_questions(source: str | Path, refuse: Refuse = stop) -> Iterator[Line]:
    """Read questions, with or without answers, which are not looked at.

    Args:
        source: a file that ends in `.json`: the nesting of SQuAD, 1.1 or 2.0, read as a whole. Any
            other file, or `-` for stdin: JSON lines, one object with `question`, `context` and
            perhaps `id` per line, read one at a time. Empty lines are skipped.
        refuse: takes the sentence about a line, an article, a paragraph or a question that is not
            of this form, when it is its turn. Default: it is raised.

    Returns:
        The questions, in their order: where each stands, and a row with `question`, `context` and, if it has one, `id`.

    Raises:
        UserError: the file cannot be read (at once).
    """
    path = Path(source)
    if ending_of(path) == ".json":
        content, _ = read_json_and_digest(path)
        articles = read_field(content, "data", list, f"{path}: ")
        return _read_squad(articles, path, refuse)
    return read_lines(source, needs="question and context", refuse=refuse)


class QuestionAnswerer:
    """A pipeline that answers lines, see `itrd_nlp.tasks.task.Answerer`.

    Args:
        qa: the pipeline.
    """

    def __init__(self, qa: QuestionAnsweringPipeline) -> None:
        self.qa = qa

    def check(self, line: Line) -> None:
        """Refuse a question without text, or one that leaves no room for its context.

        Raises:
            UserError: says where it stands.
        """
        self.qa.check({**line.row, "id": line.where})

    def answer(self, lines: Iterator[Line]) -> Iterator[dict[str, Any]]:
        """Answer questions as they come.

        Args:
            lines: read no further than 16 batches ahead, and one by one with a batch size of 1.

        Yields:
            For each question `id` (if it has one), `question` and the answer: `answer`, `score`, `start` and `end`, or
            with `top_k` above 1 a list `answers` of these.
        """
        waiting: deque[dict[str, Any]] = deque()

        def inputs() -> Iterator[dict[str, Any]]:
            for where, row in lines:
                waiting.append(row)
                yield {**row, "id": where}

        for answer in self.qa(inputs()):
            row = waiting.popleft()
            asked: dict[str, Any] = {name: row[name] for name in ("id", "question") if name in row}
            yield {**asked, **({"answers": answer} if isinstance(answer, list) else answer)}


def _read_squad(articles: list[Any], path: Path, refuse: Refuse) -> Iterator[Line]:
    for paragraph, at_paragraph in _paragraphs(articles, path, refuse):
        try:
            context = read_field(paragraph, "context", str, at_paragraph)
            qas = read_field(paragraph, "qas", list, at_paragraph)
        except UserError as error:
            refuse(error)
            continue
        for q, qa in enumerate(qas):
            at_question = f"{at_paragraph}qas[{q}]."
            try:
                row = {name: read_field(qa, name, str, at_question) for name in ("id", "question")}
            except UserError as error:
                refuse(error)
                continue
            yield Line(f"{path}:{row['id']}", {**row, "context": context})


def _paragraphs(articles: list[Any], path: Path, refuse: Refuse) -> Iterator[tuple[Any, str]]:
    """Each paragraph with its place."""
    for a, article in enumerate(articles):
        at_article = f"{path}: data[{a}]."
        try:
            paragraphs = read_field(article, "paragraphs", list, at_article)
        except UserError as error:
            refuse(error)
            continue
        for p, paragraph in enumerate(paragraphs):
            yield paragraph, f"{at_article}paragraphs[{p}]."
