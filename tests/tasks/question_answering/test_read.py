"""Reading SQuAD: what comes out of a good file, and what a bad one is told."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.question_answering import read, read_squad
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.data import (
    load_evaluation_data,
    load_training_data,
    load_validation_examples,
)
from itrd_nlp.tasks.question_answering.read import hold_out

RIVER = {"text": "river", "answer_start": 4}


def test_every_question_becomes_a_row_in_the_order_of_the_file(
    write_squad: Callable[..., Path], squad_content: dict[str, Any]
) -> None:
    dataset = read_squad(str(write_squad()), split="train")
    expected = [
        {
            "id": qa["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": qa["question"],
            "answers": {
                "text": [answer["text"] for answer in qa["answers"]],
                "answer_start": [answer["answer_start"] for answer in qa["answers"]],
            },
        }
        for article in squad_content["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    assert dataset.to_list() == expected
    assert dataset.split == "train"


def test_a_question_keeps_all_its_answers(write_squad: Callable[..., Path]) -> None:
    answers = [{"text": "b", "answer_start": 2}, {"text": "a b", "answer_start": 0}]
    row = read_squad(write_squad(_one(answers=answers)), split="validation")[0]
    assert row["answers"] == {"text": ["b", "a b"], "answer_start": [2, 0]}


def test_a_folder_that_datasets_can_load_gives_the_same_rows(
    write_squad: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = read_squad(write_squad(), split="validation")
    folder = tmp_path / "folder"
    folder.mkdir()
    dataset.to_json(folder / "validation.jsonl")
    again = read_squad(str(folder), split="validation")
    assert again.to_list() == dataset.to_list()
    assert again.features == dataset.features


def test_a_subset_is_drawn_from_everywhere_and_the_same_in_every_call(
    write_squad: Callable[..., Path],
) -> None:
    path = write_squad(articles=20)

    def ids(**arguments: Any) -> list[str]:
        return read_squad(path, split="train", **arguments)["id"][:]

    everything, ten = ids(), ids(max_samples=10)
    assert len(set(ten)) == 10 and set(ten) < set(everything)
    assert len({i.split("-")[0] for i in ten}) > 4  # articles
    assert ids(max_samples=10) == ten
    assert ids(max_samples=4) == ten[:4]
    assert ids(max_samples=10, seed=1) != ten
    assert ids(max_samples=len(everything)) == ids(max_samples=10**6) == everything


def test_a_changed_file_is_read_again(write_squad: Callable[..., Path]) -> None:
    before = read_squad(write_squad(seed=1), split="train")
    after = read_squad(write_squad(seed=2), split="train")
    assert before.to_list() != after.to_list()
    assert before._fingerprint != after._fingerprint


def test_the_fingerprint_depends_on_the_content_alone(write_squad: Callable[..., Path]) -> None:
    first = read_squad(write_squad(name="first.json"), split="train", max_samples=5)
    second = read_squad(write_squad(name="second.json"), split="train", max_samples=5)
    other = read_squad(write_squad(name="second.json"), split="train", max_samples=6)
    assert first._fingerprint == second._fingerprint != other._fingerprint


def _one(context: Any = "a b", question: Any = "q?", **qa: Any) -> dict[str, Any]:
    """A file of one question, with what a test wants to spoil."""
    qa = {
        "id": "id1",
        "question": question,
        "answers": [{"text": "b", "answer_start": 2}],
    } | qa
    return {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": [qa]}]}]}


def _two() -> dict[str, Any]:
    content = _one()
    content["data"] *= 2
    return content


BAD_CONTENT = {
    "no data": ({"rows": []}, "data is missing or not a list"),
    "not an object": ([1, 2], "data is missing or not a list"),
    "no questions": ({"data": []}, "no question"),
    "no paragraphs": ({"data": [{"title": "t"}]}, r"data\[0\].paragraphs is missing"),
    "bad title": ({"data": [{"title": 1, "paragraphs": []}]}, r"data\[0\].title is missing or not"),
    "context is a number": (_one(context=5), r"paragraphs\[0\].context is missing or not a text"),
    "empty context": (_one(context=" \n"), "question id1: context is empty"),
    "id is a number": (_one(id=1), r"qas\[0\].id is missing or not a text"),
    "no question text": (_one(question=None), "question id1: question is missing"),
    "no answers": (_one(answers=None), "question id1: answers is missing"),
    "empty answers": (_one(answers=[]), "question id1: answers is empty"),
    "answer is a text": (_one(answers=["b"]), "question id1: text is missing"),
    "answer without start": (_one(answers=[{"text": "b"}]), "question id1: answer_start is miss"),
    "start is true": (_one(answers=[{"text": "b", "answer_start": True}]), "answer_start is miss"),
    "empty answer": (_one(answers=[{"text": " ", "answer_start": 1}]), "text of an answer is empt"),
    "shifted answer": (
        _one(answers=[{"text": "b", "answer_start": 1}]),
        "question id1: answer_start is 1, but the context does not have the answer 'b' there",
    ),
    "negative start": (_one(answers=[{"text": "a", "answer_start": -3}]), "answer_start is -3"),
    "second answer shifted": (
        _one(answers=[{"text": "b", "answer_start": 2}, {"text": "a", "answer_start": 9}]),
        "answer_start is 9",
    ),
    "duplicate id": (_two(), "question id1: the id occurs twice"),
    "impossible with an answer": (
        _one(is_impossible=True),
        "question id1: is_impossible is true, but answers has 1; a question",
    ),
    "impossible by a word": (
        _one(is_impossible="yes"),
        "question id1: is_impossible is 'yes', but must be true or false",
    ),
}


@pytest.mark.parametrize("name", BAD_CONTENT)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_what_is_not_squad_is_refused_in_one_sentence(
    name: str, split: Any, write_squad: Callable[..., Path]
) -> None:
    content, message = BAD_CONTENT[name]
    path = write_squad(content)
    with pytest.raises(UserError, match=message) as raised:
        read_squad(path, split=split)
    _is_a_sentence_about(str(path), raised.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (json.dumps(_one()).encode()[:-40], "truncated or not JSON"),
        (b"id,question\n1,who?", "truncated or not JSON"),
        (b'{"data": "\xff\xfe\xfa"}', "not UTF-8"),
        (b'{"data": [], "data": []}', "'data' occurs twice"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"data": ' * 100_000, "nested too deep"),
        (b'{"data": ' + b"9" * 5000 + b"}", "too many digits"),
    ],
)
def test_what_is_not_json_is_refused_in_one_sentence(
    raw: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "squad.json"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=message) as raised:
        read_squad(path, split="train")
    _is_a_sentence_about(str(path), raised.value)


@pytest.mark.parametrize("field", ["title", "context", "question", "id", "text"])
@pytest.mark.parametrize("answers", [True, False])
def test_half_of_a_surrogate_pair_is_refused_in_one_sentence(
    field: str, answers: bool, write_squad: Callable[..., Path]
) -> None:
    content = json.dumps(_one()).replace(f'"{field}": "', f'"{field}": "\\ud800')
    assert "\\ud800" in content
    path = write_squad(json.loads(content))
    with pytest.raises(UserError, match="a text has half of a character") as raised:
        read_squad(path, split="train", answers=answers)
    _is_a_sentence_about(str(path), raised.value)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    path.write_text("\ufeff" + json.dumps(_one()), encoding="utf-8")
    assert len(read_squad(path, split="train")) == 1


@pytest.mark.parametrize("kind", [str, Path])
def test_a_missing_file_is_not_looked_up_on_the_hub(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "load_dataset", None)
    path = tmp_path / "missing.json"
    with pytest.raises(UserError, match="no such file") as raised:
        read_squad(kind(path), split="train")
    _is_a_sentence_about(str(path), raised.value)


def test_a_data_set_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, split: str) -> None:
        assert (name, split) == ("someone/squad", "validation")
        raise ConnectionError("no network\nand a second line")

    monkeypatch.setattr(read, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"'validation'.*\(no network\)") as raised:
        read_squad("someone/squad", split="validation")
    _is_a_sentence_about("someone/squad", raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.remove_columns("question"), "no column 'question'"),
        (lambda d: d.map(lambda row: {"answers": row["answers"]["text"]}), "not those of SQuAD"),
        (lambda d: d.map(lambda row: {"id": "same"}), "question same: the id occurs twice"),
    ],
)
def test_a_data_set_that_is_not_squad_is_refused(
    change: Callable[[Any], Any],
    message: str,
    write_squad: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = change(read_squad(write_squad(), split="train"))
    monkeypatch.setattr(read, "load_dataset", lambda name, split: changed)
    with pytest.raises(UserError, match=message) as raised:
        read_squad("someone/squad", split="train")
    _is_a_sentence_about("someone/squad", raised.value)


@pytest.mark.parametrize("answers", [{"answers": []}, {"answers": None}, {}])
def test_an_unanswerable_question_of_squad_2_has_no_answers(
    answers: dict[str, Any], write_squad: Callable[..., Path]
) -> None:
    plausible = [{"text": "b", "answer_start": 2}]
    content = _one(is_impossible=True, plausible_answers=plausible)
    qa = content["data"][0]["paragraphs"][0]["qas"][0]
    del qa["answers"]
    qa |= answers
    (row,) = read_squad(write_squad(content), split="validation")
    assert row["answers"] == {"text": [], "answer_start": []}
    answered = _one(is_impossible=False, plausible_answers=[])
    (row,) = read_squad(write_squad(answered), split="validation")
    assert row["answers"] == {"text": ["b"], "answer_start": [2]}


def test_a_data_set_of_the_hub_may_have_questions_without_answers_and_no_titles(
    write_squad: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {"text": [], "answer_start": []}
    changed = read_squad(write_squad(), split="train").map(lambda row: {"answers": nothing})
    monkeypatch.setattr(read, "load_dataset", lambda name, split: changed)
    assert read_squad("someone/squad", split="train").to_list() == changed.to_list()
    untitled = changed.remove_columns("title")  # as hfl/cmrc2018
    monkeypatch.setattr(read, "load_dataset", lambda name, split: untitled)
    found = read_squad("someone/squad", split="train")
    assert set(found["title"]) == {""}
    assert found.remove_columns("title").to_list() == untitled.to_list()


# A column of Parquet may hold these. A JSON file is read field by field and cannot.
SPOILT: dict[str, tuple[dict[str, Any], str]] = {
    "null id": ({"id": None}, "row 2: id is null"),
    "null context": ({"context": None}, "question two: context is null"),
    "null question": ({"question": None}, "question two: question is null"),
    "null answers": ({"answers": None}, "question two: .* is null"),
    "null texts": (
        {"answers": {"text": None, "answer_start": [0]}},
        "question two: text of answers is null or has a null in it",
    ),
    "null starts": (
        {"answers": {"text": ["Ada"], "answer_start": None}},
        "question two: answer_start of answers is null",
    ),
    "null in the texts": (
        {"answers": {"text": ["Ada", None], "answer_start": [0, 0]}},
        "question two: text of answers is null or has a null in it",
    ),
    "null in the starts": (
        {"answers": {"text": ["Ada"], "answer_start": [None]}},
        "question two: answer_start of answers is null or has a null in it",
    ),
    "two texts and a start": (
        {"answers": {"text": ["Ada", "it"], "answer_start": [0]}},
        "question two: answers has 2 in text and 1 in answer_start",
    ),
    "a start and no text": (
        {"answers": {"text": [], "answer_start": [0]}},
        "question two: answers has 0 in text and 1 in answer_start",
    ),
}


def _parquet(folder: Path, **spoilt: Any) -> str:
    """A folder with two questions in a file of Parquet, the second of them spoilt."""
    answers = {"text": ["Ada"], "answer_start": [0]}
    row = {"title": "t", "context": "Ada wrote it.", "question": "Who?", "answers": answers}
    rows = [row | {"id": "one"}, row | {"id": "two"} | spoilt]
    folder.mkdir()
    Dataset.from_list(rows).to_parquet(folder / "train-00000-of-00001.parquet")
    return str(folder)


@pytest.mark.parametrize("name", SPOILT)
def test_null_and_ragged_values_of_a_data_set_are_one_sentence_with_the_row(
    name: str, tmp_path: Path
) -> None:
    spoilt, message = SPOILT[name]
    folder = _parquet(tmp_path / "data", **spoilt)
    with pytest.raises(UserError, match=message) as raised:
        read_squad(folder, split="train")
    _is_a_sentence_about(folder, raised.value)


def test_answers_that_nobody_asks_for_may_be_null(tmp_path: Path) -> None:
    folder = _parquet(tmp_path / "data", answers=None)
    found = read_squad(folder, split="train", answers=False)
    assert found["id"][:] == ["one", "two"] and "answers" not in found.column_names


def test_a_null_title_is_none_at_all(tmp_path: Path) -> None:
    """An empty one, as where there is no column: a file that is made of these rows can be read."""
    found = read_squad(_parquet(tmp_path / "data", title=None), split="train")
    assert found["title"][:] == ["t", ""]
    assert found.features == read.SQUAD_FEATURES
    assert found.column_names == list(read.SQUAD_FEATURES)


def test_arguments_that_make_no_sense_are_refused(write_squad: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="max_samples is 0, but must be at least 1"):
        read_squad(write_squad(), split="train", max_samples=0)
    with pytest.raises(UserError, match="split is 'test', but must be 'train' or 'validation'"):
        read_squad(write_squad(), split="test")  # type: ignore[arg-type]


def test_whole_articles_are_held_out(write_squad: Callable[..., Path]) -> None:
    everything = read_squad(write_squad(articles=10), split="train")  # 6 questions an article
    rest, held = hold_out(everything, 13)
    assert len(held) == 18  # the articles that it takes
    assert not set(rest["title"]) & set(held["title"])
    assert not set(rest["context"]) & set(held["context"])
    assert sorted(rest["id"][:] + held["id"][:]) == sorted(everything["id"])


def test_the_held_out_articles_are_the_same_in_every_call_and_others_with_another_seed(
    write_squad: Callable[..., Path],
) -> None:
    def titles(seed: int = 0) -> set[str]:
        everything = read_squad(write_squad(articles=30), split="train")
        return set(hold_out(everything, 30, seed=seed)[1]["title"])

    assert titles() == titles() != titles(seed=1)


def test_without_titles_contexts_are_held_out_and_a_context_is_never_on_both_sides(
    write_squad: Callable[..., Path], squad_content: dict[str, Any]
) -> None:
    first, *_ = squad_content["data"]
    for article in squad_content["data"]:
        del article["title"]
    twice = json.loads(json.dumps(first["paragraphs"][0]))  # a context in two articles
    for qa in twice["qas"]:
        qa["id"] += "-again"
    squad_content["data"].append({"title": "another", "paragraphs": [twice]})
    everything = read_squad(write_squad(squad_content), split="train")
    for seed in range(8):
        rest, held = hold_out(everything, 4, seed=seed)
        assert not set(rest["context"]) & set(held["context"])
        assert len(rest) + len(held) == len(everything)


def test_a_training_never_sees_what_it_holds_out(
    write_squad: Callable[..., Path], bert_tokenizer: Any
) -> None:
    def data(**arguments: Any) -> DataArguments:
        names = {"train_file": str(write_squad(articles=10)), "max_length": 128, "doc_stride": 32}
        return DataArguments(**names, **arguments)

    held = data(holdout_questions=12, evaluate_on_holdout=True)
    judged_on = load_validation_examples(held)
    assert len(judged_on) == 12
    training = load_training_data(data(holdout_questions=12), bert_tokenizer)
    assert training.questions == 48
    again = load_training_data(held, bert_tokenizer)
    assert again.features["input_ids"][:] == training.features["input_ids"][:]
    # max_train_samples draws from the rest: 48 questions are all of them.
    drawn = load_training_data(data(holdout_questions=12, max_train_samples=48), bert_tokenizer)
    assert drawn.features._fingerprint == training.features._fingerprint
    fewer = data(holdout_questions=12, evaluate_on_holdout=True, max_eval_samples=5)
    assert set(load_validation_examples(fewer)["id"]) < set(judged_on["id"])


def test_a_holdout_that_makes_no_sense_is_refused(write_squad: Callable[..., Path]) -> None:
    everything = read_squad(write_squad(articles=3), split="train")
    with pytest.raises(UserError, match="holdout_questions is 13, but the 3 articles with 18 ques"):
        hold_out(everything, 13)
    with pytest.raises(UserError, match="holdout_questions is 0, but must be at least 1"):
        hold_out(everything, 0)
    with pytest.raises(
        UserError, match="evaluate_on_holdout is true, but holdout_questions is not"
    ):
        DataArguments(evaluate_on_holdout=True)


@pytest.mark.parametrize(
    ("option", "source"),
    [
        ("max_train_samples", "train_file"),
        ("holdout_questions", "train_file"),
        ("threshold_questions", "train_file"),
        ("max_unlabelled_samples", "unlabelled_file"),
    ],
)
def test_a_number_of_questions_of_no_file_is_refused(option: str, source: str) -> None:
    with pytest.raises(UserError, match=f"{option} is set, but {source} is not, so there is noth"):
        DataArguments(**{option: 7})


def test_without_answers_only_questions_and_contexts_are_read(
    write_squad: Callable[..., Path], squad_content: dict[str, Any], tmp_path: Path
) -> None:
    full = read_squad(write_squad(), split="train")
    expected = full.remove_columns("answers").to_list()
    assert read_squad(write_squad(), split="train", answers=False).to_list() == expected
    for article in squad_content["data"]:
        for paragraph in article["paragraphs"]:
            for number, qa in enumerate(paragraph["qas"]):
                if number % 2:
                    del qa["answers"]
                else:
                    qa |= {"answers": [], "is_impossible": True}
    bare = read_squad(write_squad(squad_content), split="train", answers=False)
    assert bare.to_list() == expected
    folder = tmp_path / "folder"
    folder.mkdir()
    bare.to_json(folder / "train.jsonl")
    assert read_squad(str(folder), split="train", answers=False).to_list() == expected
    with pytest.raises(UserError, match="the data set has no column 'answers'"):
        read_squad(str(folder), split="train")


def test_questions_without_answers_come_after_those_with_and_have_no_label(
    write_squad: Callable[..., Path], bert_tokenizer: Any
) -> None:
    file = str(write_squad(articles=10))  # 60 questions

    def load(**arguments: Any) -> Any:
        sizes = {"max_length": 128, "doc_stride": 32}
        return load_training_data(DataArguments(**sizes, **arguments), bert_tokenizer)

    alone = load(train_file=file, max_train_samples=20)
    both = load(train_file=file, max_train_samples=20, unlabelled_file=file)
    assert (both.questions, both.unlabelled) == (20, 40)
    count = len(alone.features)
    assert both.features[:count] == alone.features[:]
    rest = both.features[count:]
    assert set(rest["start_positions"]) == set(rest["end_positions"]) == {IGNORED}
    everything = load(unlabelled_file=file)
    assert (everything.questions, everything.unlabelled) == (0, 60)
    inputs = sorted(everything.features["input_ids"][:])
    assert inputs == sorted(both.features["input_ids"][:])
    assert load(unlabelled_file=file, max_unlabelled_samples=7).unlabelled == 7
    with pytest.raises(UserError, match=r"squad\.json is trained on with its answers or set aside"):
        load(train_file=file, unlabelled_file=file)
    with pytest.raises(UserError, match="max_unlabelled_samples is 0, but must be at least 1"):
        load(unlabelled_file=file, max_unlabelled_samples=0)


def test_a_question_is_not_left_out_for_the_id_of_another_one(
    write_squad: Callable[..., Path], bert_tokenizer: Any
) -> None:
    file = write_squad(articles=10)  # 60 questions
    content = json.loads(file.read_text())
    asked = [qa for article in content["data"] for p in article["paragraphs"] for qa in p["qas"]]
    for qa in asked[:5]:
        qa["question"] = f"In other words, {qa['question']}"
    other = write_squad(content, "other.json")
    arguments = DataArguments(
        train_file=str(file), unlabelled_file=str(other), max_length=128, doc_stride=32
    )
    training = load_training_data(arguments, bert_tokenizer)
    assert (training.questions, training.unlabelled) == (60, 5)
    assert training.examples[1]["question"][:] == [qa["question"] for qa in asked[:5]]


def test_a_question_that_is_trained_on_is_left_out_whatever_its_id(
    write_squad: Callable[..., Path], bert_tokenizer: Any
) -> None:
    file = write_squad(articles=10)  # 60 questions
    content = json.loads(file.read_text())
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                qa["id"] = f"other-{qa['id']}"
    arguments = DataArguments(
        train_file=str(file),
        unlabelled_file=str(write_squad(content, "other.json")),
        max_train_samples=50,
        max_length=128,
        doc_stride=32,
    )
    labelled, unlabelled = load_training_data(arguments, bert_tokenizer).examples
    pairs = [set(zip(x["question"], x["context"], strict=True)) for x in (labelled, unlabelled)]
    assert not pairs[0] & pairs[1]
    assert len(labelled) + len(unlabelled) == 60


def test_questions_that_are_too_long_are_named_or_counted(
    write_squad: Callable[..., Path], bert_tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    qas = [
        {"id": f"q{i}", "question": "a " * 60 if i else "a", "answers": [RIVER]} for i in range(16)
    ]
    content = {"data": [{"paragraphs": [{"context": "the river", "qas": qas}]}]}
    arguments = DataArguments(
        validation_file=str(write_squad(content)), max_length=32, doc_stride=8
    )
    with caplog.at_level(logging.WARNING):
        data = load_evaluation_data(arguments, bert_tokenizer, skip_long=True)
    assert len(data.features) == 1
    assert sum("leaves no room for its context" in said for said in caplog.messages) == 10
    assert caplog.messages[-1] == "5 more questions are too long, too. They count 0."


def test_a_context_that_is_held_out_is_not_taught_without_answers(
    write_squad: Callable[..., Path], bert_tokenizer: Any
) -> None:
    file = str(write_squad(articles=10))
    arguments = DataArguments(
        train_file=file,
        unlabelled_file=file,
        max_train_samples=20,
        holdout_questions=12,
        max_length=128,
        doc_stride=32,
    )
    training = load_training_data(arguments, bert_tokenizer)
    assert (training.questions, training.unlabelled) == (20, 28)


def _is_a_sentence_about(subject: str, error: UserError) -> None:
    message = str(error)
    assert message.startswith(f"{subject}: ")
    assert re.fullmatch(r"[^\n]+\.", message)
