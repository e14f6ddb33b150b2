"""Span decoding, held against loops over all pairs of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering import (
    best_answers,
    decode_spans,
    decoding,
    evaluate_predictions,
    evaluation_features,
    read_squad,
)

Array = np.ndarray[Any, Any]


def make(
    rows: int, *, seed: int = 0, tokens: int = 30, extra: int = 5
) -> tuple[Array, Array, Dataset, Dataset]:
    """Random contexts of one-letter tokens, cut into windows that overlap, in random order."""
    draw = np.random.default_rng(seed)
    examples, windows = [], []
    for i in range(rows):
        letters = "".join(draw.choice(list("abcdefgh"), size=tokens))
        examples.append({"id": f"q{i}", "context": " ".join(letters)})
        size, question = int(draw.integers(5, tokens + 1)), int(draw.integers(2, 6))
        for begin in range(0, tokens, max(size // 2, 1)):
            inside = 2 * np.arange(begin, min(begin + size, tokens))
            outside = [-1] * question
            windows.append(
                {
                    "example_id": f"q{i}",
                    "char_start": [*outside, *inside.tolist(), -1],
                    "char_end": [*outside, *(inside + 1).tolist(), -1],
                    "length": question + len(inside) + 1,
                }
            )
            if inside[-1] == 2 * (tokens - 1):
                break
    draw.shuffle(windows)
    longest = max(window["length"] for window in windows)
    shape = (len(windows), longest + extra)
    start, end = draw.standard_normal(shape), draw.standard_normal(shape)
    return start, end, Dataset.from_list(windows), Dataset.from_list(examples)


def naive(
    start: Array, end: Array, features: Dataset, examples: Dataset, n_best: int, longest: int
) -> dict[str, list[tuple[str, int, int, float, float]]]:
    result = {}
    for row in examples:
        spans: dict[tuple[int, int], float] = {}
        for n, window in enumerate(features):
            if window["example_id"] != row["id"]:
                continue
            for i in range(window["length"]):
                for j in range(i, min(i + longest, window["length"])):
                    if window["char_start"][i] < 0 or window["char_start"][j] < 0:
                        continue
                    key = (window["char_start"][i], window["char_end"][j])
                    spans[key] = max(spans.get(key, -math.inf), start[n, i] + end[n, j])
        best = sorted(spans.items(), key=lambda item: -item[1])[:n_best]
        total = math.fsum(math.exp(logit) for _, logit in best)
        result[row["id"]] = [
            (row["context"][a:b], a, b, logit, math.exp(logit) / total) for (a, b), logit in best
        ]
    return result


@pytest.mark.parametrize(
    ("n_best", "longest"), [(1, 30), (20, 30), (5, 1), (3, 4), (20, 7), (10_000, 1000)]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_spans_are_those_of_a_loop_over_all_pairs(
    n_best: int, longest: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_CHUNK", 7)
    start, end, features, examples = make(8)
    start, end = start.astype(dtype), end.astype(dtype)
    expected = naive(start, end, features, examples, n_best, longest)
    spans = decode_spans(start, end, features, examples, n_best=n_best, max_answer_length=longest)
    assert list(spans) == examples["id"][:]
    for identifier, wanted in expected.items():
        assert [tuple(s[:3]) for s in spans[identifier]] == [w[:3] for w in wanted]
        np.testing.assert_allclose(
            [s[3:] for s in spans[identifier]], [w[3:] for w in wanted], rtol=1e-5, atol=1e-6
        )
    best = best_answers(start, end, features, examples, max_answer_length=longest)
    assert best == {identifier: wanted[0][0] for identifier, wanted in expected.items()}


@pytest.mark.parametrize("garbage", [1e9, -100.0, np.nan, np.inf])
def test_what_stands_outside_the_context_never_counts(garbage: float) -> None:
    start, end, features, examples = make(4, seed=1)
    expected = decode_spans(start, end, features, examples)
    for n, window in enumerate(features):
        outside = np.ones(start.shape[1], dtype=bool)
        outside[: window["length"]] = np.array(window["char_start"]) < 0
        start[n, outside] = end[n, outside] = garbage
    assert decode_spans(start, end, features, examples) == expected


def test_longer_padding_changes_nothing() -> None:
    start, end, features, examples = make(4, extra=0)
    wide = [np.pad(x, ((0, 0), (0, 50)), constant_values=-100) for x in (start, end)]
    assert decode_spans(*wide, features, examples) == decode_spans(start, end, features, examples)


def test_a_span_of_two_windows_counts_once_with_its_higher_score() -> None:
    window = {"example_id": "q", "char_start": [-1, 0, 2], "char_end": [-1, 1, 3], "length": 3}
    features = Dataset.from_list([window, window])
    examples = Dataset.from_list([{"id": "q", "context": "a b"}])
    start = np.array([[9.0, 1.0, 0.0], [9.0, 0.0, 3.0]])
    end = np.array([[9.0, 1.0, 0.0], [9.0, 0.0, 0.5]])
    spans = decode_spans(start, end, features, examples)["q"]
    assert [(s.text, s.logit) for s in spans] == [("b", 3.5), ("a", 2.0), ("a b", 1.0)]
    assert sum(s.score for s in spans) == pytest.approx(1.0)


def test_tokens_of_the_same_characters_hide_no_other_span() -> None:
    """Four tokens are the bytes of one emoji. Their ten spans are one, and the other two spans come behind it."""
    examples = Dataset.from_list([{"id": "q", "context": "😀x"}])
    characters = {"char_start": [-1, 0, 0, 0, 0, 1], "char_end": [-1, 1, 1, 1, 1, 2]}
    features = Dataset.from_list([{"example_id": "q", **characters, "length": 6}])
    start = np.array([[0, 9, 9, 9, 9, 1.0]])
    end = np.array([[0, 9, 9, 9, 9, 2.0]])
    found = decode_spans(start, end, features, examples, n_best=3)["q"]
    assert [(span.text, span.logit) for span in found] == [("😀", 18), ("😀x", 11), ("x", 3)]
    arrays = [np.array([characters[name]]) for name in ("char_start", "char_end")]
    best = decoding.decode_question(start, end, *arrays, "😀x", n_best=3)
    assert [span.text for span in best] == ["😀", "😀x", "x"]


def test_equal_scores_are_ordered_by_position() -> None:
    start, _, features, examples = make(3)
    zeros = np.zeros_like(start)
    for n_best in (1, 4):
        spans = decode_spans(zeros, zeros, features, examples, n_best=n_best)
        for identifier in examples["id"]:
            found = [(s.start, s.end) for s in spans[identifier]]
            assert found == [(0, 2 * n + 1) for n in range(n_best)]


def test_equal_scores_at_the_last_place_are_taken_by_position() -> None:
    window = {"example_id": "q", "char_start": [0, 2, 4], "char_end": [1, 3, 5], "length": 3}
    examples = Dataset.from_list([{"id": "q", "context": "a b c"}])
    start, end = np.array([[0.0, 1.0, -9.0]]), np.array([[5.5, 5.0, 4.5]])
    spans = decode_spans(start, end, Dataset.from_list([window]), examples, n_best=2)["q"]
    assert [(s.text, s.logit) for s in spans] == [("b", 6.0), ("a", 5.5)]  # "b c" has 5.5 too


def test_scores_are_probabilities_however_large_the_logits() -> None:
    start, end, features, examples = make(2)
    small = decode_spans(start, end, features, examples)
    large = decode_spans(start + 1000, end + 1000, features, examples)
    for identifier, spans in small.items():
        scores = [s.score for s in spans]
        assert sum(scores) == pytest.approx(1)
        np.testing.assert_allclose([s.score for s in large[identifier]], scores, rtol=1e-6)


def test_a_question_without_context_tokens_has_no_span() -> None:
    windows = [
        {"example_id": "q1", "char_start": [-1, 0], "char_end": [-1, 1], "length": 2},
        {"example_id": "q2", "char_start": [-1, -1], "char_end": [-1, -1], "length": 2},
    ]
    examples = Dataset.from_list([{"id": f"q{i}", "context": "x"} for i in range(1, 4)])
    logits = np.ones((2, 2), dtype=np.float16)
    arguments = (logits, logits, Dataset.from_list(windows), examples)
    assert best_answers(*arguments) == {"q1": "x", "q2": ""}  # without windows there is no answer
    assert {i: len(spans) for i, spans in decode_spans(*arguments).items()} == {
        "q1": 1,
        "q2": 0,
        "q3": 0,
    }


def test_logits_that_are_sure_of_the_answers_score_100(
    write_squad: Callable[..., Path], bert_tokenizer: PreTrainedTokenizerBase
) -> None:
    examples = read_squad(write_squad(articles=6, seed=4), split="validation")
    features = evaluation_features(examples, bert_tokenizer, max_length=100, doc_stride=40)
    start = np.zeros((len(features), 100), dtype=np.float32)
    end = np.zeros_like(start)
    rows = np.arange(len(features))
    start[rows, features["start_positions"][:]] = 5  # on [CLS] where the answer is elsewhere
    end[rows, features["end_positions"][:]] = 5
    answers = best_answers(start, end, features, examples, max_answer_length=100)
    assert answers == {row["id"]: row["answers"]["text"][0] for row in examples}
    assert evaluate_predictions(answers, examples)["exact_match"] == 100


def test_bad_input_is_refused_in_one_sentence() -> None:
    start, end, features, examples = make(3, extra=0)

    def refuses(message: str, *arguments: Any, **options: int) -> None:
        with pytest.raises(UserError, match=message):
            decode_spans(*arguments, **options)

    refuses("n_best is 0, but must be at least 1", start, end, features, examples, n_best=0)
    refuses("max_answer_length is 0, but must", start, end, features, examples, max_answer_length=0)
    refuses("must have the same shape", start, end[:, 1:], features, examples)
    refuses(f"logits for {len(start) - 1} windows", start[1:], end[1:], features, examples)
    refuses("but the longest window has", start[:, 1:], end[:, 1:], features, examples)
    refuses("question 'q1', which is not", start, end, features, examples.select([0, 2]))
    start[0, features[0]["length"] - 2] = np.nan
    refuses("NaN inside a context", start, end, features, examples)
