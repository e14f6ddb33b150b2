"""Exact match and F1 of Chinese answers, held against the official definition of CMRC 2018, written out again here."""

# ruff: noqa: RUF001

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering import chinese
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.data import load_evaluation_data
from itrd_nlp.tasks.question_answering.evaluation import evaluate_predictions
from itrd_nlp.tasks.question_answering.read import read_squad
from itrd_nlp.tasks.question_answering.scoring import Rules, best_scores, rules_of

# The list of the official evaluation, one entry a mark.
MARKS = [
    *("-", ":", "_", "*", "^", "/", "\\", "~", "`", "+", "="),
    *("\uff0c", "\u3002", "\uff1a", "\uff1f", "\uff01", "\u201c", "\u201d", "\uff1b", "\u2019"),
    *("\u300a", "\u300b", "\u2026\u2026", "\u00b7", "\u3001", "\u300c", "\u300d", "\uff08"),
    *("\uff09", "\uff0d", "\uff5e", "\u300e", "\u300f"),
]


def official_units(text: str) -> list[str]:
    """Chinese characters one by one; what lies between them is cut at white space, as NLTK cuts plain words."""
    found: list[str] = []
    between = ""
    for character in text.lower().strip():
        if character in MARKS:
            continue
        if "\u4e00" <= character <= "\u9fa5":
            found += [*between.split(), character]
            between = ""
        else:
            between += character
    return found + between.split()


def official_f1(prediction: str, answers: list[str]) -> float:
    best = 0.0
    predicted = official_units(prediction)
    for answer in answers:
        true = official_units(answer)
        runs = {tuple(true[i:j]) for i in range(len(true)) for j in range(i + 1, len(true) + 1)} & {
            tuple(predicted[i:j])
            for i in range(len(predicted))
            for j in range(i + 1, len(predicted) + 1)
        }
        longest = max(map(len, runs), default=0)
        if longest:
            precision, recall = longest / len(predicted), longest / len(true)
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def official_em(prediction: str, answers: list[str]) -> float:
    def plain(text: str) -> str:
        return "".join(c for c in text.lower().strip() if c not in MARKS)

    return float(any(plain(prediction) == plain(answer) for answer in answers))


def texts(seed: int) -> list[str]:
    draw = random.Random(seed)
    letters = [
        *"北京大学的是在中国年月日",
        "，",
        "。",
        "《",
        "》",
        "1949",
        " BBC ",
        " ",
        "T",
        "-",
    ]
    return ["".join(draw.choices(letters, k=draw.randint(0, 9))) for _ in range(4)]


@pytest.mark.parametrize("seed", range(60))
def test_both_scores_are_those_of_the_official_definition(seed: int) -> None:
    prediction, *answers = texts(seed)
    found = best_scores(prediction, answers, Rules(by_character=True))
    assert found == (official_em(prediction, answers), official_f1(prediction, answers))


def test_known_cases() -> None:
    assert chinese.f1("在北京大学", "北京大学") == pytest.approx(8 / 9)
    assert chinese.f1("北京的大学", "北京大学") == pytest.approx(4 / 9)  # the longest run is 2 long
    assert chinese.f1("", "北京") == 0.0
    assert best_scores("《北京》。", ["北京"], Rules(by_character=True)) == (1.0, 1.0)
    assert best_scores("", ["。"], Rules(by_character=True)) == (1.0, 0.0)  # as the official script
    assert chinese.f1("とうきょうです", "とうきょう") == 0  # kana are no Chinese characters
    assert chinese.units("3.5米，A-B don") == ("3.5", "米", "ab", "don")


def cmrc() -> dict[str, Any]:
    """The form of the official files: no version of SQuAD, an id a paragraph, several answers."""
    context = "北京大学创办于1898年，位于中国北京。"
    qas = [
        {
            "question": "北京大学位于哪里？",
            "id": "DEV_0_QUERY_0",
            "answers": [{"text": "中国北京", "answer_start": 15}] * 3,
        }
    ]
    paragraphs = [{"id": "DEV_0", "context": context, "qas": qas}]
    return {"version": "v1.0", "data": [{"paragraphs": paragraphs, "id": "DEV_0", "title": "北京"}]}


def test_a_chinese_file_is_read_and_judged_by_characters(
    write_squad: Callable[..., Path], bert_tokenizer: Any, tmp_path: Path
) -> None:
    examples = read_squad(write_squad(cmrc()), split="validation")
    assert rules_of(examples) == Rules(by_character=True)
    found = evaluate_predictions({"DEV_0_QUERY_0": "位于中国北京"}, examples)
    assert found["exact_match"] == 0.0
    assert found["f1"] == pytest.approx(80.0)  # 4 of 6 and 4 of 4
    file = str(write_squad(cmrc()))
    words = DataArguments(validation_file=file, f1_unit="words")
    assert not load_evaluation_data(words, bert_tokenizer).metrics.rules.by_character
    characters = load_evaluation_data(DataArguments(validation_file=file), bert_tokenizer)
    assert characters.metrics.rules.by_character
    assert characters.signature != load_evaluation_data(words, bert_tokenizer).signature


def test_the_unit_is_that_of_most_questions(write_squad: Callable[..., Path]) -> None:
    content = cmrc()
    qas = content["data"][0]["paragraphs"][0]["qas"]
    qas.append(qas[0] | {"id": "DEV_0_QUERY_1", "question": "Where is it?"})
    half = read_squad(write_squad(content, "half.json"), split="validation")
    assert not rules_of(half).by_character
    assert rules_of(half, "characters").by_character
    with pytest.raises(UserError, match="f1_unit is 'letters', but must be one of words, char"):
        DataArguments(f1_unit="letters")


def test_chinese_without_an_answer(write_squad: Callable[..., Path]) -> None:
    content = cmrc()
    qas = content["data"][0]["paragraphs"][0]["qas"]
    qas.append({"id": "b", "question": "谁？", "answers": [], "is_impossible": True})
    examples = read_squad(write_squad(json.loads(json.dumps(content))), split="validation")
    found = evaluate_predictions({"DEV_0_QUERY_0": "中国北京", "b": ""}, examples)
    assert (found["f1"], found["has_answer_f1"], found["no_answer"]) == (100.0, 100.0, 100.0)
    found = evaluate_predictions({"DEV_0_QUERY_0": "", "b": "北京"}, examples)
    assert (found["f1"], found["has_answer_f1"], found["no_answer"]) == (0.0, 0.0, 0.0)
