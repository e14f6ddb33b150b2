"""Read SQuAD 1.1 and 2.0 and data sets of their form, from JSON or from the Hub, and refuse what is of another form.

CMRC 2018 and DRCD, in Chinese, have this form, too. A question that its context does not answer has no answers in its
row; SQuAD 2.0 marks it by ``is_impossible``, and its ``plausible_answers`` are not looked at.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, NamedSplit, Value, load_dataset

from itrd_nlp.errors import UserError
from itrd_nlp.files import parse_json, read_bytes
from itrd_nlp.tasks.lines import ending_of

SQUAD_FEATURES = Features(
    {
        "id": Value("string"),
        "title": Value("string"),
        "context": Value("string"),
        "question": Value("string"),
        "answers": {"text": [Value("string")], "answer_start": [Value("int32")]},
    }
)
"""The schema of the Hub data set `rajpurkar/squad`, which `read_squad` returns for every source."""


def read_squad(
    source: str | Path,
    *,
    split: Literal["train", "validation"],
    max_samples: int | None = None,
    seed: int = 0,
    answers: bool = True,
) -> Dataset:
    """Read one split of SQuAD, one row per question.

    Args:
        source: a JSON file of the official format, 1.1 or 2.0; or what `datasets.load_dataset` takes, the id of
            a Hub data set or a folder, with the columns of `rajpurkar/squad` or `rajpurkar/squad_v2`. A column
            `title` may be missing there, or hold null. A `Path` or a name that ends in `.json` is never looked up on
            the Hub.
        split: which split to load from a data set. For a file it only names the split.
        max_samples: keep only the first `max_samples` rows of a random permutation fixed by `seed`.
            SQuAD is ordered by article, so this spreads a subset over all articles. A smaller
            subset is a prefix of a larger one. `None` keeps all rows in their order.
        seed: seed of that permutation.
        answers: False reads questions and contexts alone: the source needs no answers, and what it
            has of them is not looked at.

    Returns:
        A data set with the columns `id`, `title`, `context`, `question` and, if asked for,
        `answers`, with the lists `text` and `answer_start` (characters). They are empty where the context does not
        answer the question. The fingerprint depends on the content of the file only, so what is cached from it is
        reused in later runs and never stale.

    Raises:
        UserError: the source is missing or not of this form, a value is null, a context is empty, a question of a file
            has no answer and is not marked by `is_impossible`, or is marked and has one, an answer is not in its
            context at `answer_start`, an id occurs twice or `max_samples` is below 1.

    Example:
        >>> train = read_squad("train-v1.1.json", split="train", max_samples=1000)  # doctest: +SKIP
    """
    if split not in ("train", "validation"):
        raise UserError(f"split is {split!r}, but must be 'train' or 'validation'.")
    _check_max_samples(max_samples)
    path = Path(source)
    if not path.is_dir() and (
        isinstance(source, Path) or path.is_file() or ending_of(path) == ".json"
    ):
        dataset = _read_file(path, split, answers)
    else:
        dataset = _read_dataset(str(source), split, answers)
    return draw(dataset, max_samples, seed=seed)


def draw(dataset: Dataset, max_samples: int | None, *, seed: int = 0) -> Dataset:
    """The first `max_samples` rows of a random permutation fixed by `seed`.

    Args:
        dataset: rows as `read_squad` returns them.
        max_samples: how many; `None`, or more than there are, keeps all rows in their order.
        seed: seed of the permutation.

    Raises:
        UserError: `max_samples` is below 1.
    """
    _check_max_samples(max_samples)
    if max_samples is None or max_samples >= len(dataset):
        return dataset
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset.select(order[:max_samples], keep_in_memory=True)


def hold_out(
    dataset: Dataset, questions: int, *, seed: int = 0, option: str = "holdout_questions"
) -> tuple[Dataset, Dataset]:
    """Set whole articles aside, so that no context is on both sides.

    Articles are drawn at random until they hold at least `questions` questions. Without a title a context is an article
    by itself; a context that occurs in two articles belongs to the first.

    Args:
        dataset: rows as `read_squad` returns them.
        questions: how many questions to set aside, at least.
        seed: seed of the draw.
        option: the argument that asks for it, for the error message.

    Returns:
        The questions that are left and those that were set aside, each in the order of `dataset`.

    Raises:
        UserError: `questions` is below 1, or nothing would be left.
    """
    if questions < 1:
        raise UserError(f"{option} is {questions}, but must be at least 1.")
    article_of: dict[str, str] = {}
    rows_of: dict[str, list[int]] = {}
    for row, (title, context) in enumerate(
        zip(dataset["title"][:], dataset["context"][:], strict=True)
    ):
        article = article_of.setdefault(context, title or context)
        rows_of.setdefault(article, []).append(row)
    articles = list(rows_of)
    held: set[int] = set()
    for i in np.random.default_rng(seed).permutation(len(articles)):
        if len(held) >= questions:
            break
        held.update(rows_of[articles[i]])
    rest = [row for row in range(len(dataset)) if row not in held]
    if not rest:
        raise UserError(
            f"{option} is {questions}, but the {len(articles)} articles with {len(dataset)} questions"
            " leave none to train on then."
        )
    return (
        dataset.select(rest, keep_in_memory=True),
        dataset.select(sorted(held), keep_in_memory=True),
    )


def _check_max_samples(max_samples: int | None) -> None:
    if max_samples is not None and max_samples < 1:
        raise UserError(f"max_samples is {max_samples}, but must be at least 1.")


def read_json_and_digest(path: Path) -> tuple[Any, str]:
    """Parse a JSON file.

    Returns:
        The parsed value and the sha256 of the file, in hex.

    Raises:
        UserError: the file is missing, unreadable, empty or not complete JSON.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path}: there is no such file.")
    raw = read_bytes(path)
    if not raw.strip():
        raise UserError(f"{path}: the file is empty.")
    try:
        # A file that repeats a key is damaged: json would silently keep the last value.
        value = parse_json(raw, _unique_keys)
    except _DuplicateKey as error:
        raise UserError(f"{path}: the key {error.args[0]!r} occurs twice in one object.") from None
    except ValueError as error:
        raise UserError(f"{path}: the file is truncated or not JSON ({error}).") from None
    return value, hashlib.sha256(raw).hexdigest()


class _DuplicateKey(Exception):
    pass


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return result


def _schema(answers: bool) -> Features:
    return Features({k: v for k, v in SQUAD_FEATURES.items() if answers or k != "answers"})


def _read_file(path: Path, split: str, answers: bool) -> Dataset:
    content, digest = read_json_and_digest(path)
    rows = list(_flatten(content, path, answers))
    if not rows:
        raise UserError(f"{path}: there is no question in the file.")
    _check_rows(rows, str(path))
    kind = "squad-v1" if answers else "questions"
    return Dataset(
        pa.Table.from_pylist(rows, schema=_schema(answers).arrow_schema),
        info=DatasetInfo(features=_schema(answers)),
        split=NamedSplit(split),
        fingerprint=hashlib.sha256(f"{kind} {digest}".encode()).hexdigest()[:16],
    )


def _read_dataset(name: str, split: str, answers: bool) -> Dataset:
    schema = _schema(answers)
    try:
        dataset = load_dataset(name, split=split)
    except Exception as error:  # of datasets, of the Hub or of the network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{name}: this is neither a file nor a data set with a split {split!r} that can be"
            f" loaded ({reason})."
        ) from error
    if "title" not in dataset.column_names and "context" in dataset.column_names:
        dataset = dataset.add_column("title", [""] * len(dataset), feature=Value("string"))
    missing = [column for column in schema if column not in dataset.column_names]
    if missing:
        raise UserError(
            f"{name}: the data set has no column {missing[0]!r}, but needs {', '.join(schema)}."
        )
    try:
        dataset = dataset.select_columns(list(schema)).cast(schema)
    except (TypeError, ValueError) as error:  # also those of pyarrow
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: the columns are not those of SQuAD ({reason}).") from error
    _check_rows(dataset, name)
    titles = dataset["title"][:]
    if None in titles:  # as where there is no such column
        filled = [title or "" for title in titles]
        others = dataset.remove_columns("title")
        dataset = others.add_column("title", filled, feature=Value("string"))
        dataset = dataset.select_columns(list(schema))
    return dataset


def _flatten(content: Any, path: Path, with_answers: bool) -> Iterable[dict[str, Any]]:
    """Yield the questions of the official nesting: data > paragraphs > qas > answers."""
    for a, article in enumerate(read_field(content, "data", list, f"{path}: ")):
        at_article = f"{path}: data[{a}]."
        paragraphs = read_field(article, "paragraphs", list, at_article)
        title = read_field(article, "title", str, at_article) if "title" in article else ""
        for p, paragraph in enumerate(paragraphs):
            at_paragraph = f"{at_article}paragraphs[{p}]."
            context = read_field(paragraph, "context", str, at_paragraph)
            for q, qa in enumerate(read_field(paragraph, "qas", list, at_paragraph)):
                at_question = f"{at_paragraph}qas[{q}]."
                identifier = read_field(qa, "id", str, at_question)
                at_question = f"{path}: question {identifier}: "
                row = {
                    "id": identifier,
                    "title": title,
                    "context": context,
                    "question": read_field(qa, "question", str, at_question),
                }
                if not with_answers:
                    yield row
                    continue
                answers = _answers(qa, at_question)
                row["answers"] = {
                    "text": [read_field(x, "text", str, at_question) for x in answers],
                    "answer_start": [
                        read_field(x, "answer_start", int, at_question) for x in answers
                    ],
                }
                yield row


def _answers(qa: dict[str, Any], where: str) -> list[Any]:
    """The answers of a question: none where it is marked as one that its context does not answer.

    Raises:
        UserError: mark and answers contradict each other.
    """
    impossible = qa.get("is_impossible", False)
    if not isinstance(impossible, bool):
        raise UserError(
            f"{where}is_impossible is {str(impossible)[:60]!r}, but must be true or false."
        )
    if impossible and qa.get("answers") in (None, []):
        return []
    answers: list[Any] = read_field(qa, "answers", list, where)
    if impossible:
        raise UserError(
            f"{where}is_impossible is true, but answers has {len(answers)}; a question that its context does not answer"
            " has none."
        )
    if not answers:
        raise UserError(
            f"{where}answers is empty, but is_impossible is not true, so the question must have an answer."
        )
    return answers


def read_field(parent: Any, name: str, kind: type, where: str) -> Any:
    """A field of the official nesting.

    Args:
        parent: the object that has it.
        name: of the field.
        kind: `list`, `str` or `int`.
        where: the place of the object, for the message.

    Raises:
        UserError: the field is missing or of another kind.
    """
    value = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {list: "a list", str: "a text", int: "an integer"}[kind]
        raise UserError(
            f"{where}{name} is missing or not {wanted}, but the file must have the format of SQuAD."
        )
    return value


def _check_rows(rows: Iterable[dict[str, Any]], source: str) -> None:
    """Refuse rows of which a value is missing or makes no sense. A column of a data set may hold null anywhere.

    Raises:
        UserError: names the question, or the row where the id is what is missing.
    """
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        where = f"{source}: {_named(row, number)}: "
        for name in ("id", "context", "question", "answers"):
            if name in row and row[name] is None:
                raise UserError(f"{where}{name} is null, but every row needs one.")
        if row["id"] in seen:
            raise UserError(f"{where}the id occurs twice, but ids must be unique.")
        seen.add(row["id"])
        if not row["context"].strip():
            raise UserError(f"{where}context is empty.")
        if "answers" in row:
            _check_answers(row["answers"], row["context"], where)


def _named(row: dict[str, Any], number: int) -> str:
    return f"row {number}" if row["id"] is None else f"question {row['id']}"


def _check_answers(answers: dict[str, Any], context: str, where: str) -> None:
    """Refuse answers that are not in the context.

    Raises:
        UserError: says what is wrong with one of them.
    """
    for name, values in answers.items():
        if values is None or None in values:
            raise UserError(
                f"{where}{name} of answers is null or has a null in it, but must be a list, which is empty where there "
                "is no answer."
            )
    texts, starts = answers["text"], answers["answer_start"]
    if len(texts) != len(starts):
        raise UserError(
            f"{where}answers has {len(texts)} in text and {len(starts)} in answer_start, but each text needs its start."
        )
    for text, start in zip(texts, starts, strict=True):
        if not text.strip():
            raise UserError(f"{where}the text of an answer is empty.")
        if start < 0 or context[start : start + len(text)] != text:
            raise UserError(
                f"{where}answer_start is {start}, but the context does not have the answer"
                f" {text[:60]!r} there."
            )
