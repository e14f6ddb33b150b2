"""Labelled texts or tokens from files and data sets, and what is wrong with them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from itrd_nlp.errors import UserError
from itrd_nlp.files import file_record, source_record

# It was declared here, and users import it from here.
from itrd_nlp.tasks.classification.arguments import TextArguments as TextArguments
from itrd_nlp.tasks.classification.columns import (
    TAGS,
    Columns,
    check_column,
    second_text,
    text_column,
)
from itrd_nlp.tasks.classification.tables import read_conll, read_table
from itrd_nlp.tasks.lines import (
    CONLL,
    TABLES,
    Line,
    Row,
    ending_of,
    is_cut,
    is_filled,
    is_text,
    named_file,
    read_lines,
)
from itrd_nlp.tasks.sources import is_file
from itrd_nlp.training.record import DataRecord

Kind = Literal["label", "labels", "value", "tokens"]
"""The kind of a row: one label, labels that may hold together, a number, or a label a token."""

VALUE = "value"
"""The name of the only output of a regression."""
SEPARATOR = "|"
"""Between the labels in a cell of a table."""
NEEDS = '"text" and "label", or "tokens" and "labels"'


@dataclass(frozen=True)
class Source:
    """The rows that were read.

    Attributes:
        rows: at least one.
        names: the labels in the order of a data set that numbers them; None where it does not.
        record: of the file or the data set.
    """

    rows: list[Row]
    names: list[str] | None
    record: DataRecord


def read_source(args: TextArguments, split: Literal["train", "validation"]) -> Source:
    """Read the rows that arguments ask for, from a file or from a data set of the Hub.

    Args:
        args: the arguments.
        split: ``train`` or ``validation``.

    Raises:
        UserError: the source is not named, cannot be read, or has a row that cannot be used.
    """
    needs = "labelled texts: JSON lines, a table, CoNLL or a data set of the Hub"
    train, name = split == "train", named_file(args, split, needs=needs)
    most = args.max_train_samples if train else args.max_eval_samples
    if is_file(name):
        rows = read_rows(name, most, columns=Columns.of(args))
        subset = is_cut(_lines_of(name, Columns.of(args))[0], most)
        return Source(rows, None, DataRecord(**file_record(name, rows=len(rows)), subset=subset))
    return _read_data_set(args, name, [args.train_split] if train else args.validation_splits, most)


def _read_data_set(args: TextArguments, name: str, splits: list[str], most: int | None) -> Source:
    from itrd_nlp.tasks.hub import class_names, hub_lines, list_columns, read_hub

    rows: list[Row] = []
    names: list[str] | None = None
    subset = False
    # A row of the only split needs its name where a metric counts the rows of one split.
    named = len(splits) > 1 or any(metric.startswith("accuracy_") for metric in args.metrics)
    for split in splits:
        dataset = read_hub(name, args.dataset_config, split)
        where = " ".join(filter(None, (name, args.dataset_config, split)))
        columns = Columns.of(args).among(dataset.column_names, where, lists=list_columns(dataset))
        wanted = filter(None, (columns.text, columns.text_pair, *columns.labels))
        lines = hub_lines(dataset, where, list(dict.fromkeys(wanted)))
        read = rows_of(lines, where, columns, most)
        rows += [row | {"split": split} for row in read] if named else read
        subset = subset or (most is not None and len(dataset) > most)
        names = class_names(dataset, columns.labels[0]) if len(columns.labels) == 1 else None
    facts = {"config": args.dataset_config, "split": "+".join(splits), "subset": subset}
    known: dict[str, Any] = {key: value for key, value in facts.items() if value is not None}
    return Source(rows, names, DataRecord(**source_record(name, rows=len(rows)), **known))


def read_rows(
    path: str | Path, max_samples: int | None = None, *, columns: Columns | None = None
) -> list[Row]:
    """Read labelled texts or labelled tokens from a file.

    Args:
        path: a file, all of one kind, see `TextArguments`. Its ending says its form: a table (``.csv``, ``.tsv``),
            tokens with tags (``.conll``, ``.iob``, ``.bio``, ``.txt``), or a JSON object a line.
        max_samples: read this many at most.
        columns: the names of the columns, where they are not the usual ones.

    Returns:
        Rows with ``text``, perhaps ``text_pair``, and ``label``, a text or a number, or ``labels``, a sorted list of
        texts; or with ``tokens`` and ``labels``. Integers and booleans among the labels are their text in JSON, such as
        ``1`` or ``true``.

    Raises:
        UserError: names the file, the line and the field that is missing or wrong.
    """
    lines, columns = _lines_of(path, columns or Columns())
    return rows_of(lines, str(path), columns, max_samples)


def _lines_of(path: str | Path, columns: Columns) -> tuple[Iterable[Line], Columns]:
    """The lines of a file of any form, and its columns by their names."""
    ending = ending_of(path)
    lines: Iterable[Line]
    if ending in TABLES:
        header, lines = read_table(path)
        columns = columns.among(header, str(path))
    elif ending in CONLL:
        if columns.text or columns.text_pair or columns.labels:
            raise UserError(
                f"{path} has columns without names: the first one is the token and the last one its tag; leave "
                "text_column, text_pair_column and label_columns out."
            )
        lines = read_conll(path)
    else:
        lines = read_lines(path, needs=NEEDS)
    return lines, columns


def rows_of(
    lines: Iterable[Line], source: str, columns: Columns, most: int | None = None
) -> list[Row]:
    """Check lines of any form, all of one kind.

    Args:
        lines: of a file or a data set.
        source: its name, for the sentence.
        columns: the names of the columns.
        most: take this many lines. Default: all.

    Raises:
        UserError: names the line and the field that is missing or wrong, or there is no line.
    """
    rows: list[Row] = []
    names: dict[str, None] = {}
    lines = iter(lines)
    for where, row in itertools.islice(lines, most):
        names |= dict.fromkeys(row)
        rows.append(_row(row, where, columns))
        if kind_of(rows) != kind_of(rows[-1:]):
            raise UserError(
                f"{where} is of another kind than the lines before; all rows need one kind: a label, a list of "
                "labels, a number, or tokens with labels."
            )
    if not rows:
        raise UserError(f"{source} holds no row.")
    if columns.text_pair is not None:
        if columns.text_pair not in names:  # a later row, which nobody asked for, may have it
            names |= dict.fromkeys(name for _, row in lines for name in row)
        check_column("text_pair_column", columns.text_pair, names, source)
    return rows


def kind_of(rows: Sequence[Row]) -> Kind:
    """The kind of rows. All are of the kind of the first one."""
    if is_tokens(rows):
        return "tokens"
    if "labels" in rows[0]:
        return "labels"
    return "value" if isinstance(rows[0]["label"], float) else "label"


def is_tokens(rows: Sequence[Row]) -> bool:
    """Whether the rows have a label a token."""
    return "tokens" in rows[0]


def label_names(rows: Sequence[Row]) -> list[str]:
    """The labels that occur, in alphabetical order; `VALUE` alone of numbers."""
    kind = kind_of(rows)
    if kind == "value":
        return [VALUE]
    if kind == "label":
        return sorted({row["label"] for row in rows})
    return sorted({label for row in rows for label in row["labels"] if label is not None})


def label_text(label: Any) -> Any:
    """A label that JSON holds as an integer, true or false as its text there; anything else as it is."""
    return json.dumps(label) if isinstance(label, int) else label  # a bool is an int, too


def is_words(values: Any) -> bool:
    """Whether a value from JSON is a list of texts."""
    return isinstance(values, list) and all(map(is_text, values))


def can_be_read(text: Any, pair: Any) -> bool:
    """Whether values from JSON are a text, or an empty one beside a second text, as some questions of QQP are."""
    return is_filled(text) or (text == "" and is_filled(pair))


def _row(row: Row, where: str, columns: Columns) -> Row:
    text = columns.text or text_column(row)
    if not isinstance(row.get(text), list) and (columns.text is not None or text == "text"):
        return _text_row(row, where, columns, text)
    usual = next((name for name in TAGS if name in row), "labels")
    name = columns.labels[0] if columns.labels else usual
    tokens, labels = row.get(text), row.get(name)
    if not is_words(tokens) or not tokens:
        raise UserError(f'{where}: "{text}" must be a list of words, at least one.')
    if columns.problem_type is not None or columns.text_pair is not None:
        raise UserError(
            f"{where}: the row has tokens, which have one label each; leave problem_type and text_pair_column out."
        )
    if not isinstance(labels, list) or len(labels) != len(tokens):
        raise UserError(
            f'{where}: "{name}" must be a list with one label for each of {len(tokens)} tokens.'
        )
    labels = [label_text(label) for label in labels]
    for label in labels:
        if label is not None and not is_filled(label):
            raise UserError(
                f'{where}: {label!r} is among "{name}", but each must be a string that is not empty, an integer, '
                "true or false, or null where the token is not judged."
            )
    return {"tokens": tokens, "labels": labels}


def _text_row(row: Row, where: str, columns: Columns, text: str) -> Row:
    value, name = row.get(text), columns.text_pair or "text_pair"
    pair = second_text(row, name)
    if not can_be_read(value, pair):
        raise UserError(f'{where}: "{text}" is {value!r}, but must be a string that is not empty.')
    kept = {"text": value, **_labels(row, where, columns)}
    if pair is not None:
        if not is_text(pair):
            raise UserError(f'{where}: "{name}" is {pair!r}, but must be a string.')
        kept["text_pair"] = pair
    return kept


def _labels(row: Row, where: str, columns: Columns) -> Row:
    """The label of a text, under the name that says its kind."""
    if len(columns.labels) > 1:
        return {"labels": sorted(_holding(row, where, columns))}
    usual = "labels" if "labels" in row and "label" not in row else "label"
    name = columns.labels[0] if columns.labels else usual
    label, kind = row.get(name), columns.problem_type
    if kind == "regression":
        return {"label": _number(label, where, name)}
    if kind == "multi_label_classification" and isinstance(label, str):
        label = [part.strip() for part in label.split(SEPARATOR) if part.strip()]
    if isinstance(label, list) and kind != "single_label_classification":
        labels = [label_text(one) for one in label]
        for one in labels:
            if not is_filled(one):
                raise UserError(
                    f'{where}: {one!r} is among "{name}", but each must be a string that is not empty, an integer, '
                    "true or false."
                )
        return {"labels": sorted(set(labels))}
    if kind == "multi_label_classification":
        raise UserError(f'{where}: "{name}" is {label!r}, but must be a list of labels.')
    label = label_text(label)
    if not is_filled(label):
        numbers = "; problem_type=regression reads numbers" if isinstance(label, float) else ""
        raise UserError(
            f'{where}: "{name}" is {label!r}, but must be a string that is not empty, an integer, true or '
            f"false{numbers}."
        )
    return {"label": label}


def _holding(row: Row, where: str, columns: Columns) -> Iterator[str]:
    """The labels whose own column says that they hold."""
    if columns.problem_type not in (None, "multi_label_classification"):
        raise UserError(
            f"label_columns are {', '.join(columns.labels)}, which are labels that may hold together, but problem_type "
            f"is {columns.problem_type}."
        )
    for name in columns.labels:
        value = str(label_text(row.get(name))).lower()
        if value not in ("0", "1", "0.0", "1.0", "true", "false"):
            raise UserError(
                f'{where}: "{name}" is {row.get(name)!r}, but must be 0 or 1, because label_columns names several '
                "columns."
            )
        if value in ("1", "1.0", "true"):
            yield name


def _number(label: Any, where: str, name: str) -> float:
    """A label of a regression."""
    try:
        number = math.nan if isinstance(label, bool | None) else float(label)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f'{where}: "{name}" is {label!r}, but must be a finite number for a regression.'
        )
    return number
