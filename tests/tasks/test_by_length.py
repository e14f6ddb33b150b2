"""Rows are answered in batches of like length, and in their own order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.by_length import answer_by_length, in_batches, length_of_line
from itrd_nlp.tasks.lines import Line

WORDS = ["aaa", "b", "cccccc", "dd", "eeeee", "", "ffff"] * 20


class Shouter:
    """Answers texts in capitals, and remembers in which groups they came."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []

    def __call__(self, texts: list[str]) -> Iterator[str]:
        self.groups.append(texts)
        return (text.upper() for text in texts)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 200])
def test_answers_come_in_the_order_of_the_rows(batch_size: int) -> None:
    found = list(answer_by_length(iter(WORDS), len, Shouter(), batch_size))
    assert found == [word.upper() for word in WORDS]


def test_the_longest_row_of_a_group_comes_first_and_no_group_has_more_than_16_batches() -> None:
    shouter = Shouter()
    assert len(list(answer_by_length(WORDS, len, shouter, 2))) == 140
    assert [len(group) for group in shouter.groups] == [32, 32, 32, 32, 12]
    for group in shouter.groups:
        assert [len(text) for text in group] == sorted(map(len, group), reverse=True)


@pytest.mark.parametrize(("batch_size", "ahead"), [(1, 1), (2, 32), (4, 64)])
def test_a_stream_without_end_is_read_as_far_as_needed(batch_size: int, ahead: int) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in itertools.count(1):
            yield "x" * (read % 7)

    answers = answer_by_length(endless(), len, Shouter(), batch_size)
    for answered, _ in enumerate(itertools.islice(answers, 200), start=1):
        assert answered <= read < answered + ahead


@pytest.mark.parametrize("error", [UserError, OSError, ValueError])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_error_of_the_stream_comes_after_the_answers_before_it(
    batch_size: int, error: type[Exception]
) -> None:
    def stream() -> Iterator[str]:
        yield from ["a", "bbb", "cc"]
        raise error("line 4 is wrong")

    answers = answer_by_length(stream(), len, Shouter(), batch_size)
    assert [next(answers) for _ in range(3)] == ["A", "BBB", "CC"]
    with pytest.raises(error, match="line 4 is wrong"):
        next(answers)


def test_ctrl_c_in_a_stream_stops_at_once() -> None:
    def stream() -> Iterator[str]:
        yield from ["a", "bbb", "cc"]
        raise KeyboardInterrupt

    shouter = Shouter()
    with pytest.raises(KeyboardInterrupt):
        next(answer_by_length(stream(), len, shouter, 2))
    assert shouter.groups == []


def test_no_row_is_no_answer() -> None:
    assert list(answer_by_length([], len, Shouter(), 4)) == []


def test_batches_leave_no_row_out() -> None:
    assert list(in_batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]


def test_the_length_of_a_line_is_that_of_its_texts_and_tokens() -> None:
    row = {"text": "four", "text_pair": "threes", "tokens": ["a", "b"], "id": 7, "score": None}
    assert length_of_line(Line("a.jsonl: line 1", row)) == 4 + 6 + 2
