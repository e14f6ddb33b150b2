"""Find the best answer spans in the logits of a span head, exactly and for all windows at once.

The score of a span is the logit of its start plus the logit of its end. The usual heuristic pairs
only the 20 best starts with the 20 best ends of a window. The search here covers every pair within
`max_answer_length` tokens, so the span it finds never has a lower score.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.arguments import MAX_ANSWER_LENGTH

_CHUNK = 1024  # windows at a time: bounds the memory to some ten MB


class Span(NamedTuple):
    """One candidate answer of a question.

    Attributes:
        text: the answer, `context[start:end]`.
        start: its first character in the context.
        end: the character after its last one.
        logit: start logit plus end logit.
        score: softmax of `logit`, over the n best spans of the question in `decode_spans`, over
            all of its spans in `decode_question`.
    """

    text: str
    start: int
    end: int
    logit: float
    score: float


class Candidates(NamedTuple):
    """Spans of all windows, one entry per span.

    Attributes:
        example: its row in the examples.
        start: its first character in the context.
        end: the character after its last one.
        logit: start logit plus end logit.
    """

    example: npt.NDArray[Any]
    start: npt.NDArray[Any]
    end: npt.NDArray[Any]
    logit: npt.NDArray[Any]


def decode_spans(
    start_logits: npt.NDArray[np.floating[Any]],
    end_logits: npt.NDArray[np.floating[Any]],
    features: Dataset,
    examples: Dataset,
    *,
    n_best: int = 20,
    max_answer_length: int = MAX_ANSWER_LENGTH,
) -> dict[str, list[Span]]:
    """Find the `n_best` spans of each question.

    Args:
        start_logits: `(N, L)`, one row per window in the order of `features`. Logits at padding
            or outside the context never count.
        end_logits: `(N, L)`.
        features: `N` windows, as `evaluation_features` returns them.
        examples: the questions from which the windows were made.
        n_best: most spans per question.
        max_answer_length: most tokens per span.

    Returns:
        Question id to its spans, the best first, in the order of `examples`. A span that several
        windows contain occurs once, with its highest score. Equal scores are ordered by position.

    Raises:
        UserError: shapes, windows and questions do not fit together, or a number is below 1.
    """
    best = best_spans(start_logits, end_logits, features, examples, n_best, max_answer_length)
    bounds = np.searchsorted(best.example, np.arange(len(examples) + 1))
    starts, ends, logits = best.start.tolist(), best.end.tolist(), best.logit.tolist()
    result: dict[str, list[Span]] = {}
    for i, (identifier, context) in enumerate(
        zip(examples["id"][:], examples["context"][:], strict=True)
    ):
        low, high = int(bounds[i]), int(bounds[i + 1])
        weights = np.exp(best.logit[low:high] - best.logit[low:high].max(initial=-np.inf))
        scores = (weights / weights.sum()).tolist()
        result[identifier] = [
            Span(context[starts[k] : ends[k]], starts[k], ends[k], logits[k], scores[k - low])
            for k in range(low, high)
        ]
    return result


def best_answers(
    start_logits: npt.NDArray[np.floating[Any]],
    end_logits: npt.NDArray[np.floating[Any]],
    features: Dataset,
    examples: Dataset,
    *,
    max_answer_length: int = MAX_ANSWER_LENGTH,
) -> dict[str, str]:
    """Find the text of the best span of each question.

    Arguments and errors are those of `decode_spans`.

    Returns:
        Question id to answer, in the order of `examples`; "" where there is no span at all, and no
        answer to a question without windows.
    """
    best = best_spans(start_logits, end_logits, features, examples, 1, max_answer_length)
    identifiers, contexts = examples["id"][:], examples["context"][:]  # rows one by one are slow
    in_windows = set(features["example_id"][:])
    answers = dict.fromkeys((name for name in identifiers if name in in_windows), "")
    for example, start, end in zip(
        best.example.tolist(), best.start.tolist(), best.end.tolist(), strict=True
    ):
        answers[identifiers[example]] = contexts[example][start:end]
    return answers


def decode_question(
    start_logits: npt.NDArray[np.floating[Any]],
    end_logits: npt.NDArray[np.floating[Any]],
    char_start: npt.NDArray[np.integer[Any]],
    char_end: npt.NDArray[np.integer[Any]],
    context: str,
    *,
    n_best: int = 1,
    max_answer_length: int = MAX_ANSWER_LENGTH,
    null_logit: float | None = None,
) -> list[Span]:
    """Find the `n_best` spans of one question, with their probabilities.

    The spans are those of `decode_spans`. The `score` of a span is exp(logit) / sum of exp(logit)
    over every span of the question that has at most `max_answer_length` tokens, not only over the
    n best, so that it does not depend on `n_best`. A span of several windows is one span in this
    sum, too, with its highest logit.

    Args:
        start_logits: `(W, L)`, one row per window of the question.
        end_logits: `(W, L)`.
        char_start: `(W, L)`, the first character of each token in the context, -1 where a token is
            not of the context.
        char_end: `(W, L)`, the character after the last one, -1 likewise. The logits of a token
            without characters never count.
        context: the text that the characters are of.
        n_best: most spans.
        max_answer_length: most tokens per span.
        null_logit: the logit of "there is no answer". If given, it takes part in the softmax and
            in the ranking, as the span of no characters at 0.

    Returns:
        The spans, the best first; no span where no token is of the context.

    Raises:
        UserError: a logit inside the context is NaN.
    """
    spans = _best_of_windows(
        start_logits, end_logits, char_start, char_end, n_best, max_answer_length
    )
    best = _merge(spans._replace(example=np.zeros_like(spans.example)), n_best)
    candidates = list(zip(best.start.tolist(), best.end.tolist(), best.logit.tolist(), strict=True))
    total = _log_total(start_logits, end_logits, char_start, char_end, max_answer_length)
    if null_logit is not None:
        candidates.append((0, 0, null_logit))
        # Stable, so that of equal logits the span comes first.
        candidates = sorted(candidates, key=lambda candidate: -candidate[2])[:n_best]
        total = np.logaddexp(total, null_logit)
    return [
        Span(context[start:end], start, end, logit, min(float(np.exp(logit - total)), 1.0))
        for start, end, logit in candidates
    ]


def _log_total(
    start: npt.NDArray[np.floating[Any]],
    end: npt.NDArray[np.floating[Any]],
    char_start: npt.NDArray[np.integer[Any]],
    char_end: npt.NDArray[np.integer[Any]],
    max_answer_length: int,
) -> float:
    """Log of the sum of exp(logit) over all spans of a question, the same characters once."""
    max_answer_length = min(max_answer_length, start.shape[1])
    behind = ((0, 0), (0, max_answer_length - 1))
    dtype = np.result_type(start.dtype, np.float32)  # that of `_best_of_windows`
    ends = np.pad(end.astype(dtype), behind)
    in_context = char_end > char_start
    stops = np.where(in_context, char_end.astype(np.int64), -1)
    stops = np.pad(stops, behind, constant_values=-1)

    window, first = np.nonzero(in_context)
    last = first[:, None] + np.arange(max_answer_length)
    stop = stops[window[:, None], last]
    legal = stop >= 0
    logit = (start.astype(dtype)[window, first][:, None] + ends[window[:, None], last])[legal]
    characters = (char_start.astype(np.int64)[window, first][:, None] * (stops.max() + 1) + stop)[
        legal
    ]
    if not len(logit):
        return -np.inf
    order = np.argsort(characters)
    new = np.flatnonzero(np.diff(characters[order], prepend=-1))
    highest = np.maximum.reduceat(logit[order], new).astype(np.float64)
    peak = highest.max()
    return float(peak + np.log(np.exp(highest - peak).sum()))


def _check_logits(
    start_logits: npt.NDArray[np.floating[Any]],
    end_logits: npt.NDArray[np.floating[Any]],
    features: Dataset,
    n_best: int,
    max_answer_length: int,
) -> None:
    """Refuse logits that are not those of the windows, and numbers below 1."""
    for name, value in (("n_best", n_best), ("max_answer_length", max_answer_length)):
        if value < 1:
            raise UserError(f"{name} is {value}, but must be at least 1.")
    if start_logits.ndim != 2 or start_logits.shape != end_logits.shape:
        raise UserError(
            f"start_logits and end_logits have the shapes {start_logits.shape} and"
            f" {end_logits.shape}, but must have the same shape (windows, length)."
        )
    if len(start_logits) != len(features):
        raise UserError(
            f"There are logits for {len(start_logits)} windows, but {len(features)} windows."
        )
    longest = max(features["length"][:], default=0)
    if longest > start_logits.shape[1]:
        raise UserError(
            f"The logits are {start_logits.shape[1]} tokens long,"
            f" but the longest window has {longest} tokens."
        )


def best_spans(
    start_logits: npt.NDArray[np.floating[Any]],
    end_logits: npt.NDArray[np.floating[Any]],
    features: Dataset,
    examples: Dataset,
    n_best: int,
    max_answer_length: int,
) -> Candidates:
    """The n best spans per example, ordered by example, then by score. Arguments are those of `decode_spans`."""
    _check_logits(start_logits, end_logits, features, n_best, max_answer_length)
    table = features.with_format("arrow")[:]
    index = {identifier: i for i, identifier in enumerate(examples["id"][:])}
    try:
        example = np.array([index[i] for i in table["example_id"].to_pylist()], dtype=np.int64)
    except KeyError as error:
        raise UserError(
            f"There is a window of the question {error.args[0]!r}, which is not in the examples."
        ) from None

    parts = []
    for begin in range(0, len(features), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        chunk = table.slice(begin, _CHUNK)
        char_start, char_end = _padded(chunk["char_start"]), _padded(chunk["char_end"])
        width = char_start.shape[1]
        spans = _best_of_windows(
            start_logits[rows, :width],
            end_logits[rows, :width],
            char_start,
            char_end,
            n_best,
            max_answer_length,
        )
        parts.append(spans._replace(example=example[rows][spans.example]))
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Candidates(empty, empty, empty, empty.astype(np.float32))
    return _merge(
        Candidates(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))), n_best
    )


def _padded(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A column of lists as one array, -1 behind the end of each."""
    lists = column.combine_chunks()
    lengths = lists.value_lengths().to_numpy()
    mask = np.arange(lengths.max()) < lengths[:, None]
    result = np.full(mask.shape, -1, dtype=np.int64)
    result[mask] = lists.flatten().to_numpy()
    return result


def _best_of_windows(
    start_logits: npt.NDArray[np.floating[Any]],
    end_logits: npt.NDArray[np.floating[Any]],
    char_start: npt.NDArray[np.integer[Any]],
    char_end: npt.NDArray[np.integer[Any]],
    n_best: int,
    max_answer_length: int,
) -> Candidates:
    """The n best spans per window, and perhaps some more. The ``example`` of a span is its window.

    Several tokens may stand for the same characters, such as those of an emoji. So more spans of tokens are asked for
    until each window has n spans of different characters, or has no more.
    """
    open_ones, asked = np.arange(len(start_logits)), n_best
    found = []
    while len(open_ones):
        ours, first, last, logit = _best_of_tokens(
            start_logits[open_ones],
            end_logits[open_ones],
            (char_end > char_start)[open_ones],
            asked,
            max_answer_length,
        )
        window = open_ones[ours]
        spans = Candidates(window, char_start[window, first], char_end[window, last], logit)
        different = np.unique(np.stack((ours, *spans[1:3])), axis=1)[0]
        enough = np.bincount(different, minlength=len(open_ones)) >= n_best
        done = enough | (np.bincount(ours, minlength=len(open_ones)) < asked)
        found.append([column[done[ours]] for column in spans])
        open_ones, asked = open_ones[~done], 2 * asked
    return Candidates(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _best_of_tokens(
    start: npt.NDArray[np.floating[Any]],
    end: npt.NDArray[np.floating[Any]],
    in_context: npt.NDArray[np.bool_],
    n_best: int,
    max_answer_length: int,
) -> tuple[npt.NDArray[Any], ...]:
    """The n best spans per window: window, first token, last token, logit, one entry per span.

    The n best spans of a window begin at the n starts whose own best span is best: any other start
    has n better spans before it. So the search over all pairs is one of the best end per start, and
    only n starts are looked at with all their ends.
    """
    count, width = start.shape
    max_answer_length = min(max_answer_length, width)
    dtype = np.result_type(start.dtype, np.float32)
    start = np.where(in_context, start, -np.inf).astype(dtype)
    # Behind the last token nothing can end, so that every start has the same number of ends.
    ends = np.full((count, width + max_answer_length - 1), -np.inf, dtype=dtype)
    ends[:, :width] = np.where(in_context, end, -np.inf)

    best_end = ends[:, :width].copy()
    for shift in range(1, max_answer_length):
        np.maximum(best_end, ends[:, shift : shift + width], out=best_end)
    best_of_start = start + best_end
    if np.isnan(best_of_start).any():
        raise UserError("The logits have NaN inside a context.")

    chosen = _largest(best_of_start, n_best)
    chosen.sort(axis=1)
    rows = np.arange(count)[:, None]
    last = chosen[:, :, None] + np.arange(max_answer_length)
    logit = start[rows, chosen][:, :, None] + ends[rows[:, :, None], last]
    logit = logit.reshape(count, -1)
    order = _largest(logit, n_best)
    logit = np.take_along_axis(logit, order, axis=1)
    window, rank = np.nonzero(logit > -np.inf)
    pair = order[window, rank]
    first = chosen[window, pair // max_answer_length]
    return window, first, first + pair % max_answer_length, logit[window, rank]


def _largest(values: npt.NDArray[Any], n: int) -> npt.NDArray[np.int64]:
    """The columns of the n largest values of each row; of equal ones the first, so that a result is reproducible."""
    if n == 1:
        best: npt.NDArray[np.int64] = values.argmax(axis=1)[:, None]
        return best
    return np.argsort(-values, axis=1, kind="stable")[:, :n]


def _merge(spans: Candidates, n_best: int) -> Candidates:
    """Join the windows of each example: the same characters once, and the n best of the rest."""
    order = np.lexsort((-spans.logit, spans.end, spans.start, spans.example))
    example, start, end, logit = (array[order] for array in spans)
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(example) != 0) | (np.diff(start) != 0) | (np.diff(end) != 0)
    example, start, end, logit = example[new], start[new], end[new], logit[new]

    order = np.lexsort((end, start, -logit, example))
    rank = np.arange(len(order)) - np.searchsorted(example, example[order])
    order = order[rank < n_best]
    return Candidates(example[order], start[order], end[order], logit[order])


def stacked(rows: list[np.ndarray], fill: float) -> np.ndarray:
    """One array of rows of different lengths, at least one wide."""
    stacked = np.full((len(rows), max(1, *map(len, rows))), fill, dtype=rows[0].dtype)
    for target, row in zip(stacked, rows, strict=True):
        target[: len(row)] = row
    return stacked
