"""Logits and speed of several models on the same windows, measured in turn."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.features import QuestionAnsweringCollator
from itrd_nlp.tasks.question_answering.onnx_model import INPUT_NAMES, OnnxQuestionAnsweringModel

SpanModel = PreTrainedModel | OnnxQuestionAnsweringModel


class SpanLogits(NamedTuple):
    """What a model says to all windows.

    Attributes:
        start: `(N, L)` float32, one row a window in the order of the features, 0 behind the end of a batch.
        end: `(N, L)`.
        seconds: spent in the model, from the batch to the logits in the memory of the CPU.
    """

    start: npt.NDArray[np.float32]
    end: npt.NDArray[np.float32]
    seconds: float


def span_logits(
    models: Mapping[str, SpanModel],
    features: Dataset,
    collator: QuestionAnsweringCollator,
    *,
    batch_size: int = 32,
) -> dict[str, SpanLogits]:
    """Run models over the same windows, batch by batch in turn, so that a busy machine slows all of them alike.

    The models are put into evaluation mode and stay where they are.

    Args:
        models: name to model.
        features: windows as `evaluation_features` returns them, the longest first.
        collator: pads a batch.
        batch_size: windows a batch.

    Returns:
        Name to logits and seconds.

    Raises:
        UserError: there is no window.

    Example:
        >>> logits = span_logits({"student": model}, data.features, collator(tokenizer))  # doctest: +SKIP
        >>> data.metrics(EvalPrediction(logits["student"][:2], label_ids=None))  # doctest: +SKIP
    """
    rows = _rows(features)
    starts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in models}
    ends: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    for model in models.values():
        model.eval()
        _timed_logits(model, collator(rows[-1:]))  # what is only done once is not measured
    for begin in tqdm(range(0, len(rows), batch_size), desc="Answering", disable=None):
        batch = collator(rows[begin : begin + batch_size])
        for name, model in models.items():
            start, end, spent = _timed_logits(model, batch)
            starts[name].append(start)
            ends[name].append(end)
            seconds[name] += spent
    return {
        name: SpanLogits(_stack(starts[name]), _stack(ends[name]), seconds[name]) for name in models
    }


def milliseconds_per_question(
    models: Mapping[str, SpanModel],
    features: Dataset,
    collator: QuestionAnsweringCollator,
    *,
    questions: int = 32,
    rounds: int = 3,
    seconds: float = 60.0,
) -> dict[str, float]:
    """How long a model takes for one question, at batch size 1.

    A question takes the time of all its windows. In each round every question goes to each model in turn (A B A B), so
    that a busy machine slows all of them alike; a round before the first is not counted. The questions are spread over
    all lengths. Models are put into evaluation mode.

    Args:
        models: name to model.
        features: windows as `evaluation_features` returns them.
        collator: pads a window.
        questions: how many are asked, at most.
        rounds: how often each is asked, at most.
        seconds: no further round begins after so long; one is always counted.

    Returns:
        Name to milliseconds: the median over the questions of each one's median over the rounds.

    Raises:
        UserError: there is no window, or a number is below 1.
    """
    for name, value in (("questions", questions), ("rounds", rounds)):
        if value < 1:
            raise UserError(f"{name} is {value}, but must be at least 1.")
    rows = _rows(features)
    windows: dict[str, list[dict[str, torch.Tensor]]] = {}
    for row, identifier in zip(rows, features["example_id"], strict=True):
        windows.setdefault(identifier, []).append(collator([row]))
    # Features come longest first, so even steps cover every length.
    steps = np.linspace(0, len(windows) - 1, min(questions, len(windows))).round().astype(int)
    everything = list(windows.values())
    chosen = [everything[i] for i in steps]
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
                    times[name][r, q] = sum(_timed_logits(model, batch)[2] for batch in batches)
                progress.update()
    counted = {name: t[1 : measured + 1] for name, t in times.items()}
    return {name: 1000 * float(np.median(np.median(t, axis=0))) for name, t in counted.items()}


def _rows(features: Dataset) -> list[dict[str, Any]]:
    """The windows with nothing but what a model takes."""
    if not len(features):
        raise UserError("There is no window to answer.")
    names = [name for name in INPUT_NAMES if name in features.column_names]
    return features.select_columns(names).to_list()


def _timed_logits(
    model: SpanModel, batch: Mapping[str, torch.Tensor]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], float]:
    """Start and end logits, and the seconds they took."""
    # A tokenizer may make token types that its model does not know (DistilBERT).
    accepted = inspect.signature(model.forward).parameters
    with torch.inference_mode():
        started = time.perf_counter()
        output = model(**{k: v.to(model.device) for k, v in batch.items() if k in accepted})
        # The copy to the CPU waits for a GPU to finish.
        start = output.start_logits.float().cpu().numpy()
        end = output.end_logits.float().cpu().numpy()
        return start, end, time.perf_counter() - started


def _stack(parts: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Arrays `(B, L)` of several lengths as one."""
    rows, longest = sum(len(part) for part in parts), max(part.shape[1] for part in parts)
    result = np.zeros((rows, longest), dtype=np.float32)
    begin = 0
    for part in parts:
        result[begin : begin + len(part), : part.shape[1]] = part
        begin += len(part)
    return result
