"""Queries from a file or a pipe, whose passages are sorted one query after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from itrd_nlp.errors import UserError
from itrd_nlp.models.options import Running
from itrd_nlp.tasks.lengths import prepare_reading, trained_length
from itrd_nlp.tasks.lines import Line, Refuse, read_lines
from itrd_nlp.tasks.network import answering_network, logits_of
from itrd_nlp.tasks.reranking.arguments import QueryArguments
from itrd_nlp.tasks.reranking.data import NEEDS, check_query
from itrd_nlp.tasks.reranking.features import encode
from itrd_nlp.tasks.reranking.metrics import ranking


def read_asked(source: str | None, options: QueryArguments, refuse: Refuse) -> Iterator[Line]:
    """The queries to answer.

    Args:
        source: JSON lines with ``query`` and ``passages``; ``-`` for stdin; None: the query of `options`.
        options: the query.
        refuse: takes the sentence about a line that is no object.

    Raises:
        UserError: the source cannot be read, there are two, or the query has no passages.
    """
    if (options.query is None) == (source is None):
        raise UserError("give either --query with --passages, or --input.")
    if source is not None:
        return read_lines(source, needs=NEEDS, refuse=refuse)
    if not options.passages:
        raise UserError("passages is not set, but --query needs at least one passage to sort.")
    row = {"query": options.query, "passages": options.passages}
    check_query(row, "--query")
    return iter([Line("--query", row)])


def check_head(config: Any, name: str) -> None:
    """Refuse a model that does not give a pair one score.

    Raises:
        UserError: names the number of its labels.
    """
    if config.num_labels != 1:
        raise UserError(
            f"{name} has {config.num_labels} labels, but a reranker has one, the relevance; itrd-nlp fine-tune --task "
            "reranking makes one."
        )


def gives_logits(config: Any) -> bool:
    """Whether sentence-transformers' CrossEncoder leaves the logit of a model as it is; else it takes the sigmoid."""
    given = getattr(config, "sentence_transformers", None) or {}
    name = given.get("activation_fn", getattr(config, "sbert_ce_default_activation_function", None))
    return str(name).endswith(".Identity")


class Ranker:
    """A model that sorts passages, see `itrd_nlp.tasks.task.Answerer`.

    Args:
        model: folder, ONNX folder or model id.
        options: how many passages are shown, and how long a pair may be.
        running: how the model is loaded and runs.

    Raises:
        UserError: the model cannot be used.
    """

    def __init__(self, model: str, options: QueryArguments, running: Running) -> None:
        head = AutoModelForSequenceClassification
        self.network, self.tokenizer = answering_network(model, head, running)
        check_head(self.network.config, model)
        self.batch_size, self.top_k = running.batch_size, options.top_k
        most = options.max_length or trained_length(self.tokenizer)
        self.longest = prepare_reading(most, self.network, self.tokenizer)

    def check(self, line: Line) -> None:
        """Refuse a line without a query or without passages.

        Raises:
            UserError: names the line and the field.
        """
        check_query(line.row, line.where)

    def answer(self, lines: Iterator[Line]) -> Iterator[dict[str, Any]]:
        """The query of each line and its passages, the best first.

        Yields:
            ``query``, and ``results`` with ``index`` (place of the passage in the line), ``score`` and ``passage``. The
            score is that of sentence-transformers' CrossEncoder: the sigmoid of the logit, from 0 to 1, or the logit
            where the configuration says so.
        """
        for line in lines:
            query, passages = line.row["query"], line.row["passages"]
            logits = self._logits(query, passages)
            scores = (
                logits
                if gives_logits(self.network.config)
                else torch.sigmoid(torch.from_numpy(logits)).numpy()
            )
            best = ranking(logits, passages)[: self.top_k]
            results = [
                {"index": i, "score": float(scores[i]), "passage": passages[i]} for i in best
            ]
            known = {"id": line.row["id"]} if "id" in line.row else {}
            yield known | {"query": query, "results": results}

    def _logits(self, query: str, passages: list[str]) -> NDArray[np.float32]:
        parts = []
        for begin in range(0, len(passages), self.batch_size):
            pairs = [(query, passage) for passage in passages[begin : begin + self.batch_size]]
            encoded = encode(pairs, self.tokenizer, self.longest, padding=True, return_tensors="pt")
            parts.append(logits_of(self.network, encoded).squeeze(-1).numpy())
        return np.concatenate(parts)
