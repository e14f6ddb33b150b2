"""Text that is odd, in every file that a person gives: what one reader takes, all take, and the sentence is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.classification.data import read_rows
from itrd_nlp.tasks.lines import is_text, read_lines
from itrd_nlp.tasks.question_answering.evaluation import load_predictions
from itrd_nlp.tasks.question_answering.prediction import read_questions
from itrd_nlp.tasks.question_answering.read import read_squad
from itrd_nlp.tasks.task import read_answers
from itrd_nlp.training.record import RunRecord
from itrd_nlp.training.yaml_files import read_yaml


def squad(context: str) -> dict[str, Any]:
    answer = {"text": "a", "answer_start": 0}
    qas = [{"id": "1", "question": "what", "answers": [answer]}]
    return {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": qas}]}]}


class Reader(NamedTuple):
    """A reader, the name of its file, and its content around a text."""

    read: Callable[[Path], Any]
    name: str
    content: Callable[[str], Any]


READERS = {
    "squad": Reader(lambda p: read_squad(p, split="train"), "a.json", squad),
    "questions": Reader(lambda p: list(read_questions(p)), "a.json", squad),
    "predictions": Reader(load_predictions, "a.json", lambda text: {"1": text}),
    "answers": Reader(read_answers, "a.json", lambda text: {"1": text}),
    "texts": Reader(read_rows, "a.jsonl", lambda text: {"text": text, "label": "x"}),
    "tokens": Reader(read_rows, "a.jsonl", lambda text: {"tokens": [text], "labels": ["x"]}),
    "results": Reader(
        lambda p: RunRecord.read(p.parent), "results.json", lambda text: {"command": text}
    ),
    "yaml": Reader(lambda p: read_yaml(str(p)), "a.yaml", lambda text: {"a": text}),
}
each = pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())


@each
def test_a_byte_order_mark_is_passed_over(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / reader.name
    plain = json.dumps(reader.content("a b"))
    path.write_text(plain, encoding="utf-8")
    expected = reader.read(path)
    path.write_text(plain, encoding="utf-8-sig")
    found = reader.read(path)
    assert list(found) == list(expected)


@each
@pytest.mark.parametrize("half", ["\ud800", "a\udfffb"])
def test_half_of_a_character_is_one_sentence_with_the_file(
    half: str, reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / reader.name
    path.write_text(json.dumps(reader.content(f"a {half}")), encoding="ascii")
    with pytest.raises(UserError) as error:
        reader.read(path)
    sentence = str(error.value)
    sentence.encode()  # it can be printed
    assert reader.name in sentence and len(sentence) < 400
    assert "half of a character" in sentence or "tokens" in sentence or "\\u" in sentence


@each
@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_text_that_is_not_utf8_is_one_sentence_with_the_file(
    encoding: str, reader: Reader, tmp_path: Path
) -> None:
    path = tmp_path / reader.name
    path.write_text(json.dumps(reader.content("a é"), ensure_ascii=False), encoding=encoding)
    with pytest.raises(UserError, match=r"not (text in )?UTF-8|is not JSON") as error:
        reader.read(path)
    assert reader.name in str(error.value)


@pytest.mark.parametrize("reader", [r for name, r in READERS.items() if name != "yaml"])
def test_a_pair_of_surrogates_is_the_character_that_it_stands_for(
    reader: Reader, tmp_path: Path
) -> None:
    """JSON in ASCII writes an emoji so. In YAML each escape is a character by itself."""
    path = tmp_path / reader.name
    path.write_text(json.dumps(reader.content("a \U0001f600"), ensure_ascii=True))
    assert reader.read(path) is not None


def test_half_of_a_character_is_left_to_the_task_in_lines_to_answer(tmp_path: Path) -> None:
    """An id may be anything: the field that cannot be read is named by the task that reads it."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "\\ud800"}\n')
    (line,) = read_lines(path, needs="id")
    assert line.row == {"id": "\ud800"} and not is_text(line.row["id"])


def test_lines_that_are_no_objects_are_handed_to_who_asks_for_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n[]\nnull\n\xff\n{\n\n\xef\xbb\xbf{"a": 2}\n')
    refused: list[UserError] = []
    assert [line.row["a"] for line in read_lines(path, needs="a", refuse=refused.append)] == [1, 2]
    assert [str(error).partition(": ")[0] for error in refused] == [
        f"{path}:{n}" for n in (2, 3, 4, 5)
    ]
    with pytest.raises(UserError, match=r":2: the line is a list, but must be an object with a"):
        list(read_lines(path, needs="a"))


@pytest.mark.parametrize("name", ["squad", "questions", "texts", "tokens"])
def test_an_ending_in_capitals_says_the_same_form(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    found = []
    for file in (reader.name, reader.name.upper()):
        path = tmp_path / file
        path.write_text(json.dumps(reader.content("a b")))
        found.append([getattr(row, "row", row) for row in reader.read(path)])
    assert found[0] == found[1] and found[0]
