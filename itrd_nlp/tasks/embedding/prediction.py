"""Texts from a file or a pipe, encoded one after the other in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from itrd_nlp.models.embedder import AutoModelForSentenceEmbedding
from itrd_nlp.models.options import Running
from itrd_nlp.tasks.by_length import answer_by_length, in_batches, length_of_line
from itrd_nlp.tasks.embedding.arguments import EncodedArguments
from itrd_nlp.tasks.embedding.metrics import check_vectors
from itrd_nlp.tasks.lengths import prepare_reading, trained_length
from itrd_nlp.tasks.lines import Line, Refuse, check_text, read_lines, text_or_file
from itrd_nlp.tasks.network import answering_network, logits_of


def read_asked(source: str | None, options: EncodedArguments, refuse: Refuse) -> Iterator[Line]:
    """The texts to encode.

    Args:
        source: JSON lines with ``text``, and with ``text_pair`` where a similarity is asked for; ``-`` for stdin; None:
            the text of `options`.
        options: the text.
        refuse: takes the sentence about a line that is no object.

    Raises:
        UserError: the source cannot be read, or there are two.
    """
    given = text_or_file(source, {"text": options.text, "text_pair": options.text_pair})
    return given or read_lines(str(source), needs='"text"', refuse=refuse)


class TextEncoder:
    """A model that encodes texts, see `itrd_nlp.tasks.task.Answerer`.

    Args:
        model: folder, ONNX folder or model id.
        options: how long a text may be.
        running: how the model is loaded and runs.

    Raises:
        UserError: the model cannot be used.
    """

    def __init__(self, model: str, options: EncodedArguments, running: Running) -> None:
        head = AutoModelForSentenceEmbedding
        self.network, self.tokenizer = answering_network(model, head, running)
        self.batch_size = running.batch_size
        most = options.max_length or trained_length(self.tokenizer)
        self.longest = prepare_reading(most, self.network, self.tokenizer)

    def check(self, line: Line) -> None:
        """Refuse a line without a text.

        Raises:
            UserError: names the line and the field.
        """
        check_text(line.row, "text", line.where)
        if line.row.get("text_pair") is not None:
            check_text(line.row, "text_pair", line.where)

    def answer(self, lines: Iterator[Line]) -> Iterator[dict[str, Any]]:
        """The fields of each line and what was found.

        Returns:
            Of one text its ``embedding``, a list of numbers of length 1 together; of two texts their ``similarity``,
            the cosine, from -1 to 1.
        """
        return answer_by_length(lines, length_of_line, self._answer_all, self.batch_size)

    def _answer_all(self, lines: list[Line]) -> Iterator[dict[str, Any]]:
        for batch in in_batches(lines, self.batch_size):
            texts = [line.row["text"] for line in batch]
            pairs = [
                line.row["text_pair"] for line in batch if line.row.get("text_pair") is not None
            ]
            vectors = self._vectors(texts + pairs)
            others = iter(vectors[len(texts) :])
            for line, vector in zip(batch, vectors[: len(texts)], strict=True):
                if line.row.get("text_pair") is None:
                    yield line.row | {"embedding": vector.tolist()}
                else:
                    yield line.row | {"similarity": float(vector @ next(others))}

    def _vectors(self, texts: list[str]) -> Tensor:
        encoded = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        vectors = logits_of(self.network, encoded)
        check_vectors(vectors.numpy())
        return vectors
