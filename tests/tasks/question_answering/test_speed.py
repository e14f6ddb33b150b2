"""Logits and milliseconds of models that run in turn, with a clock that only the models move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertTokenizerFast
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.jobs import speed as module
from itrd_nlp.tasks.jobs.speed import milliseconds_per_question, model_logits
from itrd_nlp.tasks.question_answering import QuestionAnsweringCollator


class Clock:
    """The time of `time.perf_counter`, and who was called when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, int, int]] = []  # model, windows, tokens

    def perf_counter(self) -> float:
        return self.now


class Ticking(torch.nn.Module):
    """Takes `milliseconds` for every token, a second more for its first `slow` calls."""

    device = torch.device("cpu")

    def __init__(self, name: str, clock: Clock, milliseconds: float, slow: int = 0) -> None:
        super().__init__()
        self.name, self.clock, self.milliseconds, self.slow = name, clock, milliseconds, slow

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        self.clock.calls.append((self.name, *input_ids.shape))
        self.clock.now += self.milliseconds * int(attention_mask.sum()) / 1000 + (self.slow > 0)
        self.slow -= 1
        logits = torch.zeros(input_ids.shape)
        return QuestionAnsweringModelOutput(start_logits=logits, end_logits=logits)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def collator(bert_tokenizer: BertTokenizerFast) -> QuestionAnsweringCollator:
    return QuestionAnsweringCollator(bert_tokenizer)


def windows(lengths: dict[str, list[int]]) -> Dataset:
    """Windows of questions, the longest first, token types included."""
    rows = [(length, name) for name, all_of_it in lengths.items() for length in all_of_it]
    draw = np.random.default_rng(0)
    return Dataset.from_list(
        [
            {
                "input_ids": draw.integers(5, 64, length).tolist(),
                "token_type_ids": [0] * (length // 2) + [1] * (length - length // 2),
                "example_id": name,
                "start_positions": 0,
                "end_positions": 0,
                "length": length,
            }
            for length, name in sorted(rows, reverse=True)
        ]
    )


FEATURES = windows({"a": [40, 13], "b": [31], "c": [30, 29, 5], "d": [8]})


def test_logits_are_those_of_each_window_alone(
    make_bert: Any, collator: QuestionAnsweringCollator
) -> None:
    models = {"four": make_bert(4, seed=0), "two": make_bert(2, seed=1)}
    for model in models.values():
        model.config.hidden_dropout_prob = 0.5
        model.bert.embeddings.dropout.p = 0.5
        model.train()  # with dropout: must be switched off
    logits = model_logits(models, FEATURES, collator, batch_size=3)
    for name, model in models.items():
        start, end = logits[name].values
        assert start.shape == end.shape == (len(FEATURES), 40)
        for i, row in enumerate(FEATURES):
            alone = {k: torch.tensor([row[k]]) for k in ("input_ids", "token_type_ids")}
            with torch.no_grad():
                output = model(**alone)
            for found, expected in ((start, output.start_logits), (end, output.end_logits)):
                np.testing.assert_allclose(
                    found[i, : row["length"]], expected[0].numpy(), atol=1e-5
                )


def test_models_run_batch_by_batch_in_turn_and_only_their_time_counts(
    clock: Clock, collator: QuestionAnsweringCollator
) -> None:
    models = {"a": Ticking("a", clock, 1), "b": Ticking("b", clock, 3, slow=1)}
    logits = model_logits(models, FEATURES, collator, batch_size=4)
    batches = [("a", 4, 40), ("b", 4, 40), ("a", 3, 16), ("b", 3, 16)]
    assert clock.calls == [("a", 1, 8), ("b", 1, 8), *batches]  # after one window to warm up
    tokens = sum(FEATURES["length"])
    assert logits["a"].seconds == pytest.approx(tokens / 1000)
    assert logits["b"].seconds == pytest.approx(3 * tokens / 1000)


def test_a_question_takes_the_time_of_all_its_windows(
    clock: Clock, collator: QuestionAnsweringCollator
) -> None:
    models = {"fast": Ticking("fast", clock, 1), "slow": Ticking("slow", clock, 2.5)}
    result = milliseconds_per_question(models, FEATURES, collator)
    tokens = [40 + 13, 31, 30 + 29 + 5, 8]
    assert result == pytest.approx({"fast": np.median(tokens), "slow": 2.5 * np.median(tokens)})


def test_questions_go_to_the_models_in_turn_one_window_at_a_time(
    clock: Clock, collator: QuestionAnsweringCollator
) -> None:
    models = {"a": Ticking("a", clock, 1), "b": Ticking("b", clock, 1)}
    milliseconds_per_question(models, windows({"x": [24, 9], "y": [16]}), collator, rounds=2)
    one_round = [("a", 1, 24), ("a", 1, 16), ("b", 1, 24), ("b", 1, 16), ("a", 1, 16), ("b", 1, 16)]
    assert clock.calls == one_round * 3


def test_the_first_round_is_not_counted(clock: Clock, collator: QuestionAnsweringCollator) -> None:
    features = windows({"x": [24], "y": [16]})
    result = milliseconds_per_question(
        {"cold": Ticking("cold", clock, 1, slow=2)}, features, collator, rounds=1
    )
    assert result == pytest.approx({"cold": 20})


def test_the_questions_asked_are_spread_over_all_lengths(
    clock: Clock, collator: QuestionAnsweringCollator
) -> None:
    features = windows({str(i): [8 * i] for i in range(1, 10)})
    milliseconds_per_question({"a": Ticking("a", clock, 1)}, features, collator, questions=3)
    assert {length for _, _, length in clock.calls} == {72, 40, 8}


def test_they_are_spread_whatever_the_order_of_the_features(
    clock: Clock, collator: QuestionAnsweringCollator
) -> None:
    """Those of a classifier come in the order of the file."""
    features = windows({str(i): [8 * i] for i in range(1, 10)})
    shuffled = features.select([3, 0, 7, 5, 8, 1, 2, 6, 4]).remove_columns("example_id")
    milliseconds_per_question({"a": Ticking("a", clock, 1)}, shuffled, collator, questions=3)
    assert [length for _, _, length in clock.calls[:3]] == [72, 40, 8]


def test_features_of_no_example_are_not_timed(
    clock: Clock, collator: QuestionAnsweringCollator
) -> None:
    features = windows({"x": [24, 9], "y": [16]})
    names = [None if name == "y" else name for name in features["example_id"]]
    features = features.remove_columns("example_id").add_column("example_id", names)
    found = milliseconds_per_question({"a": Ticking("a", clock, 1)}, features, collator)
    assert found == pytest.approx({"a": 24 + 9})


def test_a_slow_model_is_asked_in_fewer_rounds_but_in_one_at_least(
    clock: Clock, collator: QuestionAnsweringCollator
) -> None:
    features = windows({"x": [8], "y": [16]})

    def calls(seconds: float) -> int:
        clock.calls.clear()
        found = milliseconds_per_question(
            {"a": Ticking("a", clock, 1000)}, features, collator, seconds=seconds
        )
        assert found == {"a": pytest.approx(12_000)}
        return len(clock.calls)

    assert [calls(0), calls(24), calls(50), calls(1000)] == [4, 4, 6, 8]


@pytest.mark.parametrize("wrong", ["questions", "rounds"])
def test_numbers_below_one_are_refused(
    wrong: str, clock: Clock, collator: QuestionAnsweringCollator
) -> None:
    with pytest.raises(UserError, match=f"{wrong} is 0, but must be at least 1"):
        milliseconds_per_question({"a": Ticking("a", clock, 1)}, FEATURES, collator, **{wrong: 0})


def test_no_windows_are_refused(clock: Clock, collator: QuestionAnsweringCollator) -> None:
    nothing = FEATURES.select([])
    for measure in (model_logits, milliseconds_per_question):
        with pytest.raises(UserError, match="no window"):
            measure({"a": Ticking("a", clock, 1)}, nothing, collator)
