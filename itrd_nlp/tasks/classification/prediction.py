"""Texts from a file or a pipe, labelled one after the other in constant memory."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import check_vocabulary, load_model, load_tokenizer
from itrd_nlp.models.onnx_model import OnnxModel, is_onnx_folder
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.classification.arguments import LabelArguments
from itrd_nlp.tasks.classification.data import is_text, is_words
from itrd_nlp.tasks.classification.features import encode, first_parts, longest_input
from itrd_nlp.tasks.lines import Line, read_lines


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
        device: where it runs; default: the first accelerator, else the CPU.
        dtype: of the weights.
        batch_size: texts at a time.

    Yields:
        The fields of each line, and for a text its ``label`` and ``score``, the probability of the label; for tokens
        ``labels`` and ``scores``, one a token, null where the model has not read the token.

    Raises:
        UserError: the model, the source or a line cannot be used.
    """
    if (options.text is None) == (source is None):
        raise UserError("give either --text or --input.")
    if options.text_pair is not None and options.text is None:
        raise UserError("text_pair is set, but belongs to --text; a line of --input has its own.")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1.")
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
        if dtype != "float32" or device not in (None, "cpu"):
            raise UserError(
                f"{model} is an ONNX folder, which runs on the CPU as it was exported; give neither dtype nor device."
            )
        return OnnxModel.from_pretrained(model)
    network = load_model(model, role="model", args=loading, head=head)
    try:
        return network.to(device=device or _accelerator(), dtype=getattr(torch, dtype)).eval()
    except (AssertionError, RuntimeError) as error:  # of torch
        if device is None:
            raise
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(f"device {device!r} cannot be used: {reason}.") from error


def _accelerator() -> str:
    """The first accelerator, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else str(found)


def _labelled(
    network: Any,
    tokenizer: PreTrainedTokenizerBase,
    lines: Iterator[Line],
    batch_size: int,
    max_length: int,
) -> Iterator[dict[str, Any]]:
    names = network.config.id2label
    token_head = _labels_tokens(network)
    longest = longest_input(max_length, network.config)
    while batch := list(itertools.islice(lines, batch_size)):
        for line in batch:
            _check(line, token_head)
        encoded = encode(
            [line.row for line in batch], tokenizer, longest, padding=True, return_tensors="pt"
        )
        probabilities = _probabilities(network, encoded)
        for i, line in enumerate(batch):
            if not token_head:
                best = int(probabilities[i].argmax())
                yield line.row | {"label": names[best], "score": float(probabilities[i, best])}
                continue
            labels: list[str | None] = [None] * len(line.row["tokens"])
            scores: list[float | None] = [None] * len(labels)
            for word, position in first_parts(encoded.word_ids(i)).items():
                best = int(probabilities[i, position].argmax())
                labels[word], scores[word] = names[best], float(probabilities[i, position, best])
            yield line.row | {"labels": labels, "scores": scores}


def _labels_tokens(network: Any) -> bool:
    """Whether the head has a label for each token."""
    return bool((network.config.architectures or [""])[0].endswith("ForTokenClassification"))


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


def _probabilities(network: Any, encoded: Any) -> Tensor:
    accepted = inspect.signature(network.forward).parameters
    inputs = {k: v.to(network.device) for k, v in encoded.items() if k in accepted}
    with torch.inference_mode():
        return network(**inputs).logits.float().softmax(dim=-1).cpu()
