"""Texts from a file or a pipe, labelled one after the other in constant memory."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import (
    LoadingArguments,
    check_vocabulary,
    load_model,
    load_tokenizer,
)
from itrd_nlp.models.onnx_model import OnnxModel, is_onnx_folder
from itrd_nlp.tasks.lines import Line, read_lines


@dataclass
class LabelArguments:
    """Which text."""

    text: str | None = field(default=None, metadata={"help": "One text."})
    text_pair: str | None = field(
        default=None, metadata={"help": "The second text, for a model of pairs."}
    )
    max_length: int = field(
        default=384, metadata={"help": "Most tokens of a text; longer ones are cut."}
    )


def predict(
    model: str,
    source: str | None,
    options: LabelArguments,
    *,
    head: type,
    loading: LoadingArguments,
    device: str | None,
    dtype: str,
    batch_size: int,
) -> Iterator[dict[str, Any]]:
    """Label texts or tokens as they come.

    Args:
        model: folder, ONNX folder or model id.
        source: JSON lines as `TextArguments` describes them, labels not needed; ``-`` for stdin; None: the text of
            `options`.
        options: the text, and the longest input.
        head: the class of transformers that loads the model.
        loading: how it is loaded.
        device: where it runs; default: the CPU.
        dtype: of the weights.
        batch_size: texts at a time.

    Yields:
        For each text ``text`` (and ``text_pair``, ``id``), its ``label`` and ``score``, the probability of the label;
        for a row of tokens ``tokens``, ``labels`` and ``scores``.

    Raises:
        UserError: the model, the source or a line cannot be used.
    """
    if (options.text is None) == (source is None):
        raise UserError("give either --text or --input.")
    if source is None:
        row = {"text": options.text, "text_pair": options.text_pair}
        given = {name: value for name, value in row.items() if value is not None}
        lines: Iterator[Line] = iter([Line("--text", given)])
    else:
        lines = read_lines(source, needs="text, or with tokens")
    network = _network(model, head, loading, device, dtype)
    tokenizer = load_tokenizer(model, loading)
    check_vocabulary(tokenizer, network.config.vocab_size, model)
    return _labelled(network, tokenizer, lines, batch_size, options.max_length)


def _network(
    model: str, head: type, loading: LoadingArguments, device: str | None, dtype: str
) -> Any:
    if is_onnx_folder(model):
        return OnnxModel.from_pretrained(model)
    network = load_model(model, role="model", args=loading, head=head)
    return network.to(device=device or "cpu", dtype=getattr(torch, dtype)).eval()


def _labelled(
    network: Any,
    tokenizer: PreTrainedTokenizerBase,
    lines: Iterator[Line],
    batch_size: int,
    max_length: int,
) -> Iterator[dict[str, Any]]:
    names = network.config.id2label
    while batch := list(itertools.islice(lines, batch_size)):
        for line in batch:
            _check(line)
        kinds = {"tokens" in line.row for line in batch}
        if len(kinds) > 1:
            raise UserError(f"{batch[0].where}: texts and tokens cannot stand in one file.")
        tokens = kinds.pop()
        encoded = _encoded(tokenizer, [line.row for line in batch], tokens, max_length)
        probabilities = _probabilities(network, encoded)
        for i, line in enumerate(batch):
            if not tokens:
                best = int(probabilities[i].argmax())
                yield line.row | {"label": names[best], "score": float(probabilities[i, best])}
                continue
            first = _first_parts(encoded.word_ids(i))
            chosen = probabilities[i, first].max(dim=-1)
            yield line.row | {
                "labels": [names[j] for j in chosen.indices.tolist()],
                "scores": chosen.values.tolist(),
            }


def _check(line: Line) -> None:
    """Refuse a line that holds neither a text nor tokens."""
    tokens, text = line.row.get("tokens"), line.row.get("text")
    words = isinstance(tokens, list) and tokens and all(isinstance(word, str) for word in tokens)
    if words or ("tokens" not in line.row and isinstance(text, str) and text.strip()):
        return
    raise UserError(
        f'{line.where}: the line must have a "text" that is not empty, or "tokens", a list of words.'
    )


def _encoded(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Any]],
    tokens: bool,
    max_length: int,
) -> Any:
    settings = {
        "truncation": True,
        "max_length": max_length,
        "padding": True,
        "return_tensors": "pt",
    }
    if tokens:
        return tokenizer([row["tokens"] for row in rows], is_split_into_words=True, **settings)
    texts = [row["text"] for row in rows]
    if any(row.get("text_pair") is not None for row in rows):
        return tokenizer(texts, [row.get("text_pair") or "" for row in rows], **settings)
    return tokenizer(texts, **settings)


def _probabilities(network: Any, encoded: Any) -> Tensor:
    accepted = inspect.signature(network.forward).parameters
    inputs = {k: v.to(network.device) for k, v in encoded.items() if k in accepted}
    with torch.inference_mode():
        return network(**inputs).logits.float().softmax(dim=-1).cpu()


def _first_parts(words: Sequence[int | None]) -> list[int]:
    """The positions of the first part of each word."""
    return [
        i for i, word in enumerate(words) if word is not None and (i == 0 or words[i - 1] != word)
    ]
