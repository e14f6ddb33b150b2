"""The columns of texts, tokens and labels, by the names that the options or the data give them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from itrd_nlp.errors import UserError, did_you_mean
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.lines import Row

TAGS = ("labels", "ner_tags", "tags")
"""The usual columns of the labels of tokens."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns, and how their labels are read.

    Attributes:
        text: of the texts or tokens; None: see `text_column`.
        text_pair: of the second texts; None: ``text_pair``, where it is there.
        labels: of the labels; empty: ``label``, else ``labels``, or ``ner_tags`` and ``tags`` of tokens.
        problem_type: as in `TextArguments`.
    """

    text: str | None = None
    text_pair: str | None = None
    labels: tuple[str, ...] = ()
    problem_type: str | None = None

    @classmethod
    def of(cls, args: TextArguments) -> Columns:
        """The columns that arguments name."""
        return cls(
            args.text_column, args.text_pair_column, tuple(args.label_columns), args.problem_type
        )

    def among(self, there: Sequence[str], where: str, *, lists: Collection[str] = ()) -> Columns:
        """The same with the names that a table has.

        Args:
            there: the columns of the table.
            where: its name, for the sentence.
            lists: those of them that hold lists, which no cell of a file does.

        Raises:
            UserError: a column is missing.
        """
        usual_text = "tokens" if "tokens" in lists else "text"
        found = self.texts(there, where, usual_text)
        text, pair = found["text"], found.get("text_pair")
        usual = TAGS if text in lists else ("label", "labels", *TAGS)
        labels = self.labels or (next((name for name in usual if name in there), usual[0]),)
        for name in labels:
            check_column("label_columns", name, there, where)
        return Columns(text, pair, labels, self.problem_type)

    def texts(self, there: Sequence[str], where: str, usual: str = "text") -> dict[str, str]:
        """The columns of the texts alone.

        Args:
            there: the columns of the table.
            where: its name, for the sentence.
            usual: that of the texts where nobody names one.

        Returns:
            ``text``, or ``text`` and ``text_pair``, to the names that the table has for them.

        Raises:
            UserError: a column is missing.
        """
        text = self.text or usual
        pair = self.text_pair or ("text_pair" if "text_pair" in there else None)
        check_column("text_column", text, there, where)
        if pair is not None:
            check_column("text_pair_column", pair, there, where)
        return {"text": text} if pair is None else {"text": text, "text_pair": pair}


def check_column(option: str, name: str, there: Collection[str], where: str) -> None:
    """Refuse a column that a table or a line does not have.

    Args:
        option: that names it.
        name: of the column.
        there: the columns of the table or the line.
        where: its name, for the sentence.

    Raises:
        UserError: names the columns that are there.
    """
    if name not in there:
        ending = did_you_mean(name, there, f"; {option} names one of them.")
        raise UserError(f"{where}: there is no column {name!r}, but {', '.join(there)}{ending}")


def text_column(row: Row) -> str:
    """The column of a row that is read where nobody names one: ``tokens`` where it is a list, or stands alone."""
    tokens = isinstance(row.get("tokens"), list) or ("tokens" in row and "text" not in row)
    return "tokens" if tokens else "text"


def second_text(row: Row, column: str = "text_pair") -> Any:
    """The second text of a row, None where it has none. An empty one, such as an empty cell of a table, is none."""
    return None if row.get(column) == "" else row.get(column)
