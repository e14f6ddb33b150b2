"""Plain text from files and from data sets of the Hub, and what is wrong with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from datasets import Dataset

from itrd_nlp.errors import UserError, did_you_mean
from itrd_nlp.files import file_record, open_file, source_record
from itrd_nlp.tasks.lines import TABLES, Line, Row, ending_of, is_text, named_file, read_lines
from itrd_nlp.tasks.masked_lm.arguments import PlainTextArguments
from itrd_nlp.tasks.sources import is_file, source_of
from itrd_nlp.training.record import DataRecord


@dataclass(frozen=True)
class Texts:
    """The texts that were read.

    Attributes:
        rows: at least one, each with ``text`` and ``source`` (or None).
        record: of the file or the data set.
    """

    rows: list[Row]
    record: DataRecord


def read_texts(args: PlainTextArguments, split: Literal["train", "validation"]) -> Texts:
    """Read the texts that arguments ask for.

    Args:
        args: the arguments.
        split: ``train`` or ``validation``.

    Raises:
        UserError: the source is not named, cannot be read, has a text that is none, or has no text.
    """
    kinds = "plain text: a .txt file, JSON lines or a data set of the Hub"
    name = named_file(args, split, needs=kinds)
    most = args.max_train_samples if split == "train" else args.max_eval_samples
    if is_file(name):
        rows, subset = _rows(_file_lines(name, args.text_column), name, args.text_column, most)
        return Texts(rows, DataRecord(**file_record(name, rows=len(rows)), subset=subset))
    from itrd_nlp.tasks.hub import hub_lines, read_hub

    part = args.train_split if split == "train" else args.validation_split
    dataset = read_hub(name, args.dataset_config, part)
    where = " ".join(filter(None, (name, args.dataset_config, part)))
    if args.text_column not in dataset.column_names:
        names = ", ".join(dataset.column_names)
        hint = did_you_mean(
            args.text_column, dataset.column_names, "; text_column names one of them."
        )
        raise UserError(f"{where}: there is no column {args.text_column!r}, but {names}{hint}")
    named = [args.text_column, *(["source"] if _names_sources(dataset) else [])]
    lines = hub_lines(dataset, where, list(dict.fromkeys(named)))
    rows, subset = _rows(lines, where, args.text_column, most)
    facts = {"config": args.dataset_config, "split": part, "subset": subset}
    known: dict[str, Any] = {key: value for key, value in facts.items() if value is not None}
    return Texts(rows, DataRecord(**source_record(name, rows=len(rows)), **known))


def _names_sources(dataset: Dataset) -> bool:
    """Whether a data set of the Hub has names of sources. A column of numbers may be called so, too."""
    kind = getattr(dataset.features.get("source"), "dtype", None)
    return kind in ("string", "large_string")


def _file_lines(name: str, column: str) -> Iterator[Line]:
    if ending_of(name) in TABLES:
        raise UserError(f'{name} is a table, but texts come as .txt or as JSON lines with "text".')
    return _text_lines(name) if ending_of(name) == ".txt" else read_lines(name, needs='"text"')


def _text_lines(path: str) -> Iterator[Line]:
    """The lines of a text file, under the name that a text has in JSON."""
    with open_file(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise UserError(f"{path}:{number}: the line is not UTF-8 text.") from None
            yield Line(f"{path}:{number}", {"text": text.rstrip("\r\n")})


def _rows(
    lines: Iterable[Line], name: str, column: str, most: int | None
) -> tuple[list[Row], bool]:
    """The texts of lines that are not blank, and whether there are more of them.

    Raises:
        UserError: names the line and the field that is wrong, or the source that has no text.
    """
    plain = ending_of(name) == ".txt" and is_file(name)
    read = (_row(row, where, "text" if plain else column) for where, row in lines)
    texts = (row for row in read if row["text"].strip())
    rows = list(itertools.islice(texts, most))
    if not rows:
        raise UserError(f"{name} holds no text.")
    try:
        return rows, next(texts, None) is not None
    except UserError:  # nobody reads the line that is wrong
        return rows, True


def _row(row: Row, where: str, column: str) -> Row:
    text = row.get(column)
    if not is_text(text):
        raise UserError(f'{where}: "{column}" is {str(text)[:60]!r}, but must be a string.')
    return {"text": text, "source": source_of(row, where)}
