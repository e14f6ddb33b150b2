"""Texts from a file or a pipe, labelled one after the other in constant memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import check_vocabulary, load_tokenizer, saved_class
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.classification.arguments import LabelArguments
from itrd_nlp.tasks.classification.data import is_words
from itrd_nlp.tasks.classification.features import encode, first_parts, longest_input
from itrd_nlp.tasks.lines import Line, Refuse, is_text, read_lines
from itrd_nlp.tasks.network import answering_network, logits_of


def read_texts(source: str | None, options: LabelArguments, refuse: Refuse) -> Iterator[Line]:
    """The texts or tokens to label.

    Args:
        source: JSON lines as `TextArguments` describes them, labels not needed; ``-`` for stdin; None: the text of
            `options`.
        options: the text.
        refuse: takes the sentence about a line that is no object.

    Raises:
        UserError: the source cannot be read, or there are two.
    """
    if (options.text is None) == (source is None):
        raise UserError("give either --text or --input.")
    if options.text_pair is not None and options.text is None:
        raise UserError("text_pair is set, but belongs to --text; a line of --input has its own.")
    if source is None:
        row = {"text": options.text, "text_pair": options.text_pair}
        given = {name: value for name, value in row.items() if value is not None}
        return iter([Line("--text", given)])
    return read_lines(source, needs="text, or with tokens", refuse=refuse)


class Labeller:
    """A model that labels texts or tokens, see `itrd_nlp.tasks.task.Answerer`.

    Args:
        model: folder, ONNX folder or model id.
        head: the class of transformers that loads the model.
        loading: how it is loaded.
        device: where it runs; default: the first accelerator, else the CPU.
        dtype: of the weights.
        batch_size: texts at a time.
        max_length: most tokens of a text; longer ones are cut.

    Raises:
        UserError: the model cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        head: type,
        loading: LoadingArguments,
        device: str | None,
        dtype: str,
        batch_size: int,
        max_length: int,
    ) -> None:
        self.network = answering_network(model, head, loading, device, dtype)
        self.tokenizer = load_tokenizer(model, loading)
        check_vocabulary(self.tokenizer, self.network.config.vocab_size, model)
        self.batch_size = batch_size
        self.longest = longest_input(max_length, self.network.config)
        self.token_head = _labels_tokens(self.network)

    def check(self, line: Line) -> None:
        """Refuse a line that the head cannot label.

        Raises:
            UserError: names the line and the field.
        """
        _check(line, self.token_head)

    def answer(self, lines: Iterator[Line]) -> Iterator[dict[str, Any]]:
        """The fields of each line and what was found.

        Yields:
            For a text its ``label`` and ``score``, the probability of the label; for tokens ``labels`` and ``scores``,
            one a token, null where the model has not read the token.
        """
        while batch := list(itertools.islice(lines, self.batch_size)):
            rows = [line.row for line in batch]
            encoded = encode(rows, self.tokenizer, self.longest, padding=True, return_tensors="pt")
            probabilities = logits_of(self.network, encoded).softmax(dim=-1)
            for i, row in enumerate(rows):
                words = first_parts(encoded.word_ids(i)) if self.token_head else None
                yield row | self._found(row, probabilities[i], words)

    def _found(
        self, row: dict[str, Any], probabilities: Tensor, words: dict[int, int] | None
    ) -> dict[str, Any]:
        names = self.network.config.id2label
        if words is None:
            best = int(probabilities.argmax())
            return {"label": names[best], "score": float(probabilities[best])}
        labels: list[str | None] = [None] * len(row["tokens"])
        scores: list[float | None] = [None] * len(labels)
        for word, position in words.items():
            best = int(probabilities[position].argmax())
            labels[word], scores[word] = names[best], float(probabilities[position, best])
        return {"labels": labels, "scores": scores}


def _labels_tokens(network: Any) -> bool:
    """Whether the head has a label for each token."""
    return saved_class(network.config).endswith("ForTokenClassification")


def _check(line: Line, token_head: bool) -> None:
    """Refuse a line that the head cannot label."""
    row = line.row
    if token_head:
        if not (is_words(row.get("tokens")) and row["tokens"]):
            raise UserError(
                f'{line.where}: the line must have "tokens", a list of words, because the model labels tokens.'
            )
        return
    if "tokens" in row or not (is_text(row.get("text")) and row["text"].strip()):
        raise UserError(
            f'{line.where}: the line must have a "text" that is not empty, because the model labels texts.'
        )
    if row.get("text_pair") is not None and not is_text(row["text_pair"]):
        raise UserError(f'{line.where}: "text_pair" is {row["text_pair"]!r}, but must be a string.')
