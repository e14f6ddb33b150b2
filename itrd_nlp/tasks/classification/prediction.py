"""Texts from a file or a pipe, labelled one after the other in constant memory."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BatchEncoding

from itrd_nlp.errors import UserError
from itrd_nlp.files import open_file, parse_json
from itrd_nlp.models.loading import saved_class
from itrd_nlp.models.options import Running
from itrd_nlp.models.tokenizing import (
    reads_marks_alone,
    reads_words_apart,
    warn_of_joined_words,
)
from itrd_nlp.tasks.by_length import answer_by_length, in_batches, length_of_line
from itrd_nlp.tasks.classification.arguments import LabelArguments, TextArguments
from itrd_nlp.tasks.classification.columns import (
    Columns,
    check_column,
    second_text,
    text_column,
)
from itrd_nlp.tasks.classification.data import can_be_read, is_words
from itrd_nlp.tasks.classification.entities import are_tags
from itrd_nlp.tasks.classification.features import encode, first_parts
from itrd_nlp.tasks.classification.found import (
    Spans,
    found_entities,
    label_of_text,
)
from itrd_nlp.tasks.classification.pieces import cut
from itrd_nlp.tasks.classification.tables import read_conll, read_table
from itrd_nlp.tasks.lengths import prepare_reading
from itrd_nlp.tasks.lines import (
    CONLL,
    TABLES,
    Line,
    Refuse,
    ending_of,
    is_text,
    read_lines,
    text_or_file,
)
from itrd_nlp.tasks.network import answering_network, logits_of
from itrd_nlp.tasks.trained import trained_lengths

logger = logging.getLogger(__name__)

OTHERWISE = 384  # tokens of a text for a model whose training is not known


def read_texts(source: str | None, options: LabelArguments, refuse: Refuse) -> Iterator[Line]:
    """The texts or tokens to label.

    Args:
        source: a file of a form that `itrd_nlp.tasks.classification.data.read_rows` reads. JSON lines and tables need
            no labels. ``-`` is stdin, of JSON lines. None: the text of `options`.
        options: the text, or the names of the columns.
        refuse: takes the sentence about a line, a row or a sentence that is not of the form of the file.

    Raises:
        UserError: the source cannot be read, or there are two.
    """
    given = text_or_file(source, {"text": options.text, "text_pair": options.text_pair})
    if options.text_pair is not None and options.text is None:
        raise UserError("text_pair is set, but belongs to --text; a line of --input has its own.")
    columns = {"text": options.text_column, "text_pair": options.text_pair_column}
    named = {own: theirs for own, theirs in columns.items() if theirs is not None}
    if given is not None:
        if named:
            raise UserError(f"{next(iter(named))}_column is set, but names a column of --input.")
        return given
    source = str(source)
    ending = ending_of(source)
    if ending in TABLES:
        header, lines = read_table(source, refuse=refuse)
        of_table = Columns(options.text_column, options.text_pair_column).texts(header, source)
        return _renamed(lines, of_table, refuse)
    if ending in CONLL and not _holds_objects(source):
        if named:
            raise UserError(f"{source} has columns without names: the first one is the token.")
        return read_conll(source, refuse=refuse)
    needs = "text, or with tokens"
    if options.text_pair_column is not None and Path(source).is_file():
        # A name that no line has is refused before any work. Only a pipe has to be read to its end for that.
        checked = _renamed(read_lines(source, needs=needs, refuse=_ignore), named, _ignore)
        any(options.text_pair_column in line.row for line in checked)
    return _renamed(read_lines(source, needs=needs, refuse=refuse), named, refuse)


def _ignore(error: UserError) -> None:
    """A `Refuse` of what is read for the first time. The second time names it."""


def _renamed(lines: Iterator[Line], columns: dict[str, str], refuse: Refuse) -> Iterator[Line]:
    """The lines with their texts or tokens under the names by which they are read. Other columns stay as they are.

    A list of tokens is left out where a column of texts was named.

    Args:
        lines: of the source.
        columns: ``text`` and ``text_pair`` to the columns that hold them, where they have other names.
        refuse: takes the sentence about a line without a text.

    Raises:
        UserError: no line has a second text (behind the last line).
    """
    where, pair, met = "", columns.get("text_pair"), dict[str, None]()
    for where, row in lines:
        met |= dict.fromkeys(row)
        try:
            if "text" in columns:
                check_column("text_column", columns["text"], row, where)
        except UserError as error:
            refuse(error)
            continue
        own = {name: row[column] for name, column in columns.items() if column in row}
        if isinstance(own.get("text"), list):
            own["tokens"] = own.pop("text")
        elif "text" in own and isinstance(row.get("tokens"), list):
            row = {name: value for name, value in row.items() if name != "tokens"}
        yield Line(where, row | own)
    if pair is not None and met:
        check_column("text_pair_column", pair, met, where.rpartition(":")[0])


def _holds_objects(source: str) -> bool:
    """Whether a file holds JSON lines, whatever its name says. They were always read."""
    if not Path(source).is_file():
        return False
    with open_file(source) as file:
        first = file.readline().removeprefix(codecs.BOM_UTF8).strip()
    try:
        return first.startswith(b"{") and isinstance(parse_json(first, halves=True), dict)
    except ValueError:
        return first.startswith(b'{"')  # a damaged object, of which the reader says what is wrong


class Labeller:
    """A model that labels texts or tokens, see `itrd_nlp.tasks.task.Answerer`.

    Args:
        model: folder, ONNX folder or model id.
        options: how long a text may be, and what the logits are.
        running: how the model is loaded and runs.
        head: the class of transformers that loads the model.

    Raises:
        UserError: the model cannot be used.
    """

    def __init__(
        self, model: str, options: LabelArguments, running: Running, *, head: type
    ) -> None:
        self.network, self.tokenizer = answering_network(model, head, running)
        self.batch_size = running.batch_size
        revision = running.loading.model_revision
        trained = trained_lengths(model, TextArguments, revision).get("max_length", OTHERWISE)
        most = options.max_length or trained
        self.longest = prepare_reading(most, self.network, self.tokenizer)
        self.token_head = _labels_tokens(self.network)
        self.cutting: dict[str, bool] = {}
        if self.token_head:
            warn_of_joined_words(self.tokenizer)
            self.cutting = {
                "marks_alone": reads_marks_alone(self.tokenizer),
                "with_spaces": not reads_words_apart(self.tokenizer),
            }
        self.names = [str(name) for _, name in sorted(self.network.config.id2label.items())]
        self.tags = self.token_head and are_tags(self.names)
        self.problem_type = options.problem_type or self.network.config.problem_type
        if self.token_head:
            if options.problem_type is not None:
                raise UserError(
                    f"problem_type is {options.problem_type}, but {model} labels tokens, which have one label each."
                )
        elif self.problem_type == "regression" and len(self.names) != 1:
            raise UserError(
                f"{model} has {len(self.names)} outputs and the problem_type regression, but predict answers one "
                "number a text; take a model with one output, or another --problem_type."
            )
        elif self.problem_type is None and len(self.names) > 2:
            logger.warning(
                "%s says in no problem_type whether several of its %d labels may hold together, so each text gets one "
                "label; --problem_type multi_label_classification gives all that hold.",
                model,
                len(self.names),
            )

    def check(self, line: Line) -> None:
        """Refuse a line that the head cannot label.

        Raises:
            UserError: names the line and the field.
        """
        _check(line, self.token_head, reads_text=self.tags)

    def answer(self, lines: Iterator[Line]) -> Iterator[dict[str, Any]]:
        """The fields of each line and what was found.

        Returns:
            For a text its ``label`` and ``score``, its probability; ``labels`` and ``scores`` where several
            labels may hold together, those with a probability of 1/2 and more; of a regression its ``label``, a number.
            For tokens ``labels`` and ``scores``, one a token, null where the model has not read the token. A model of
            entities adds ``entities``, see `itrd_nlp.tasks.classification.found.found_entities`. It reads a text, too,
            see `itrd_nlp.tasks.classification.pieces.cut`, and adds the ``tokens`` that it has read.
        """
        return answer_by_length(lines, length_of_line, self._answer_all, self.batch_size)

    def _answer_all(self, lines: list[Line]) -> Iterator[dict[str, Any]]:
        for batch in in_batches(lines, self.batch_size):
            if self.token_head:
                yield from self._of_words([line.row for line in batch])
            else:
                yield from self._of_texts([line.row for line in batch])

    def _of_texts(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        texts = [{"text": row["text"], "text_pair": second_text(row)} for row in rows]
        for row, logits in zip(rows, self._read(texts)[1], strict=True):
            yield row | label_of_text(logits, self.names, self.problem_type)

    def _of_words(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The answers to lists of words, and to texts, which are cut into words."""
        cuts = [
            None if text_column(row) == "tokens" else cut(row["text"], **self.cutting)
            for row in rows
        ]
        lists = [one.words if one else row["tokens"] for one, row in zip(cuts, rows, strict=True)]
        encoded, logits = self._read([{"tokens": words} for words in lists])
        for i, (row, one) in enumerate(zip(rows, cuts, strict=True)):
            first = first_parts(encoded.word_ids(i))
            if one is None:
                yield row | self._labelled(Spans.of(row["tokens"]), first, logits[i])
                continue
            spans = Spans(row["text"], [one.spans.words[word] for word in first])
            found = self._labelled(spans, dict(enumerate(first.values())), logits[i])
            yield row | {"tokens": [row["text"][a:b] for a, b in spans.words]} | found

    def _read(self, rows: list[dict[str, Any]]) -> tuple[BatchEncoding, Tensor]:
        encoded = encode(rows, self.tokenizer, self.longest, padding=True, return_tensors="pt")
        return encoded, logits_of(self.network, encoded)

    def _labelled(self, spans: Spans, first: Mapping[int, int], logits: Tensor) -> dict[str, Any]:
        """The labels of words.

        Args:
            spans: the words.
            first: of each word that was read the position of its first part.
            logits: ``(T, C)``.
        """
        labels: list[str | None] = [None] * len(spans.words)
        scores: list[float | None] = [None] * len(spans.words)
        probabilities = logits.softmax(dim=-1)
        for word, position in first.items():
            best = int(probabilities[position].argmax())
            labels[word], scores[word] = self.names[best], float(probabilities[position, best])
        found: dict[str, Any] = {"labels": labels, "scores": scores}
        if self.tags:
            found["entities"] = found_entities(labels, scores, spans)
        return found


def _labels_tokens(network: Any) -> bool:
    """Whether the head has a label for each token."""
    return saved_class(network.config).endswith("ForTokenClassification")


def _check(line: Line, token_head: bool, *, reads_text: bool) -> None:
    """Refuse a line that the head cannot label."""
    row = line.row
    words = text_column(row) == "tokens"
    if token_head and (words or not reads_text):
        if not (is_words(row.get("tokens")) and row["tokens"]):
            raise UserError(
                f'{line.where}: the line must have "tokens", a list of words, because the model labels tokens.'
            )
        return
    pair = second_text(row)
    if words or not can_be_read(row.get("text"), None if token_head else pair):
        needed = '"tokens", or a "text"' if token_head else 'a "text"'
        kind = "tokens" if token_head else "texts"
        raise UserError(
            f"{line.where}: the line must have {needed} that is not empty, because the model labels {kind}."
        )
    if token_head and pair is not None:
        raise UserError(f'{line.where}: "text_pair" is there, but the model labels tokens.')
    if pair is not None and not is_text(pair):
        raise UserError(f'{line.where}: "text_pair" is {pair!r}, but must be a string.')
