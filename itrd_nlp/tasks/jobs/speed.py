"""Logits and speed of several models on the same features, measured in turn."""

from __future__ import annotations

import inspect
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel

from itrd_nlp.errors import UserError
from itrd_nlp.models.encode import LOGITS
from itrd_nlp.models.onnx_model import INPUT_NAMES, OnnxModel

Arrays = list[npt.NDArray[np.float32]]
AnyModel = PreTrainedModel | OnnxModel
Collator = Callable[[list[dict[str, Any]]], Mapping[str, torch.Tensor]]


class ModelLogits(NamedTuple):
    """The logits of a model for all features.

    Attributes:
        values: the arrays that the head returns, such as start and end logits ``(N, L)``, float32, one row a feature in
            their order, 0 behind the end of a batch.
        seconds: spent in the model, from the batch to the logits in the memory of the CPU.
    """

    values: tuple[npt.NDArray[np.float32], ...]
    seconds: float


def model_logits(
    models: Mapping[str, AnyModel],
    features: Dataset,
    collator: Collator,
    *,
    batch_size: int = 32,
    reduce: Callable[[Any, Any], torch.Tensor] | None = None,
) -> dict[str, ModelLogits]:
    """Run models over the same features, batch by batch in turn, so that a busy machine slows all of them alike.

    The models are put into evaluation mode and stay where they are.

    Args:
        models: name to model.
        features: inputs of the models, the longest first.
        collator: pads a batch.
        batch_size: features a batch.
        reduce: ``preprocess_logits_for_metrics`` of a trainer, which is applied to each batch of logits and its labels:
            the logits of a vocabulary for all features would fill the memory. Default: logits are kept as they are.

    Returns:
        Name to logits, or what ``reduce`` leaves of them, and seconds.

    Raises:
        UserError: there is no feature.
    """
    rows = _rows(features, "labels")
    parts: dict[str, list[Arrays]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    for model in models.values():
        model.eval()
        _timed_logits(model, collator(rows[-1:]))  # what is only done once is not measured
    for begin in tqdm(range(0, len(rows), batch_size), desc="Answering", disable=None):
        batch = collator(rows[begin : begin + batch_size])
        for name, model in models.items():
            values, spent = _timed_logits(model, batch)
            if reduce is not None:
                left = reduce(torch.from_numpy(values[0]), batch.get("labels"))
                values = [left.numpy()]
            parts[name].append(values)
            seconds[name] += spent
    return {
        name: ModelLogits(tuple(map(_stack, zip(*parts[name], strict=True))), seconds[name])
        for name in models
    }


def milliseconds_per_question(
    models: Mapping[str, AnyModel],
    features: Dataset,
    collator: Collator,
    *,
    questions: int = 32,
    rounds: int = 3,
    seconds: float = 60.0,
) -> dict[str, float]:
    """The time that a model takes for one example, such as a question, at batch size 1.

    An example takes the time of all its features: those of one ``example_id``, or one feature where there is no such
    column. A feature whose ``example_id`` is None belongs to no example, and is not timed. In each round every example
    goes to each model in turn (A B A B), so that a busy machine slows all of them alike. One round before the first is
    not counted. The examples are spread over all lengths. The models are put into evaluation mode.

    Args:
        models: name to model.
        features: inputs of the models.
        collator: pads a feature.
        questions: largest number of examples. Default: 32.
        rounds: largest number of rounds. Default: 3.
        seconds: no further round begins after so many seconds, but one is always counted. Default: 60.

    Returns:
        Name to milliseconds: the median over the questions of each one's median over the rounds.

    Raises:
        UserError: there is no feature, or a number is below 1.
    """
    for name, value in (("questions", questions), ("rounds", rounds)):
        if value < 1:
            raise UserError(f"{name} is {value}, but must be at least 1.")
    chosen = _of_all_lengths(features, collator, questions)
    for model in models.values():
        model.eval()
    times = {name: np.zeros((rounds + 1, len(chosen))) for name in models}
    measured, started = 0, time.perf_counter()
    with tqdm(total=(rounds + 1) * len(chosen), desc="Timing", disable=None) as progress:
        for r in range(rounds + 1):
            if r > 1 and time.perf_counter() - started > seconds:
                break
            measured = r
            for q, batches in enumerate(chosen):
                for name, model in models.items():
                    times[name][r, q] = sum(_timed_logits(model, batch)[1] for batch in batches)
                progress.update()
    counted = {name: t[1 : measured + 1] for name, t in times.items()}
    return {name: 1000 * float(np.median(np.median(t, axis=0))) for name, t in counted.items()}


def _of_all_lengths(
    features: Dataset, collator: Collator, questions: int
) -> list[list[Mapping[str, torch.Tensor]]]:
    """For each of some examples, spread over all lengths, its features as batches of one."""
    rows = _rows(features)
    windows: dict[str, list[Mapping[str, torch.Tensor]]] = {}
    tokens: Counter[str] = Counter()
    column = "example_id"
    identifiers = (
        features[column] if column in features.column_names else map(str, range(len(rows)))
    )
    for row, identifier in zip(rows, identifiers, strict=True):
        if identifier is not None:
            windows.setdefault(identifier, []).append(collator([row]))
            tokens[identifier] += len(row["input_ids"])
    if not windows:
        raise UserError("There is no example to answer.")
    # From the longest to the shortest, so that even steps cover every length.
    everything = [windows[identifier] for identifier, _ in tokens.most_common()]
    return [everything[i] for i in even_steps(len(everything), questions)]


def even_steps(count: int, most: int) -> list[int]:
    """Places from the first of ``count`` to the last at even distances, ``most`` of them or all."""
    steps: list[int] = np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()
    return steps


def _rows(features: Dataset, *others: str) -> list[dict[str, Any]]:
    """The windows with nothing but what a model takes, and other columns that are there."""
    if not len(features):
        raise UserError("There is no window to answer.")
    names = [name for name in (*INPUT_NAMES, *others) if name in features.column_names]
    rows: list[dict[str, Any]] = features.select_columns(names).to_list()
    return rows


def _timed_logits(model: AnyModel, batch: Mapping[str, torch.Tensor]) -> tuple[Arrays, float]:
    """The logits of a batch, and the seconds they took."""
    # A tokenizer may make token types that its model does not know (DistilBERT).
    accepted = inspect.signature(model.forward).parameters.keys() & set(INPUT_NAMES)
    with torch.inference_mode():
        started = time.perf_counter()
        output = model(**{k: v.to(model.device) for k, v in batch.items() if k in accepted})
        # The copy to the CPU waits for a GPU to finish.
        values = [output[name].float().cpu().numpy() for name in LOGITS if name in output]
        return values, time.perf_counter() - started


def _stack(parts: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Arrays ``(B, L, ...)`` of several lengths as one, ``(B, C)`` and ``(B,)`` as they are."""
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    rows, longest = sum(len(part) for part in parts), max(part.shape[1] for part in parts)
    result = np.zeros((rows, longest, *parts[0].shape[2:]), dtype=parts[0].dtype)
    begin = 0
    for part in parts:
        result[begin : begin + len(part), : part.shape[1]] = part
        begin += len(part)
    return result
