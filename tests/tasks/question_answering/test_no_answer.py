"""Unanswerable questions: their scores, their threshold, and the answer ""; held against the official definition.

The official evaluation of SQuAD 2.0 is written out again here, question by question and threshold by threshold.
"""

from __future__ import annotations

import collections
import math
import random
import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import BertConfig, EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.analysis import disagreements
from itrd_nlp.tasks.question_answering.breakdown import breakdown
from itrd_nlp.tasks.question_answering.evaluation import SquadMetrics, evaluate_predictions
from itrd_nlp.tasks.question_answering.features import evaluation_features, training_features
from itrd_nlp.tasks.question_answering.no_answer import (
    ScoredAnswers,
    answers_and_differences,
    best_threshold,
    threshold_of,
)
from itrd_nlp.tasks.question_answering.read import read_squad
from itrd_nlp.tasks.question_answering.scoring import Rules, metrics_of, rules_of

SQUAD_2 = Rules(unanswerable=True)

# ---- the official evaluation ----


def plain(text: str) -> str:
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def words(text: str) -> list[str]:
    return plain(text).split() if text else []


def official_exact(gold: str, predicted: str) -> int:
    return int(plain(gold) == plain(predicted))


def official_f1(gold: str, predicted: str) -> float:
    true, given = words(gold), words(predicted)
    if not true or not given:  # without a word on one side both must be without
        return int(true == given)
    same = sum((collections.Counter(true) & collections.Counter(given)).values())
    if not same:
        return 0
    precision, recall = same / len(given), same / len(true)
    return 2 * precision * recall / (precision + recall)


def official_scores(
    answers: Mapping[str, list[str]], predicted: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    exact, f1 = {}, {}
    for name, given in answers.items():
        golds = [gold for gold in given if plain(gold)] or [""]
        exact[name] = max(official_exact(gold, predicted[name]) for gold in golds)
        f1[name] = max(official_f1(gold, predicted[name]) for gold in golds)
    return exact, f1


def official_evaluation(
    answers: Mapping[str, list[str]], predicted: Mapping[str, str]
) -> dict[str, float]:
    exact, f1 = official_scores(answers, predicted)
    found = {}
    parts = {
        "": list(answers),
        "HasAns_": [name for name in answers if answers[name]],
        "NoAns_": [name for name in answers if not answers[name]],
    }
    for part, names in parts.items():
        if names:
            found[f"{part}exact"] = 100 * sum(exact[n] for n in names) / len(names)
            found[f"{part}f1"] = 100 * sum(f1[n] for n in names) / len(names)
    return found


def official_best_f1(
    answers: Mapping[str, list[str]], predicted: Mapping[str, str], ahead: Mapping[str, float]
) -> float:
    """The best F1 over all thresholds, where a question above it is scored as one that is answered by ""."""
    _, f1 = official_scores(answers, predicted)
    best = 0.0
    for threshold in [-math.inf, *ahead.values()]:
        of_all = [f1[n] if ahead[n] <= threshold else float(not answers[n]) for n in answers]
        best = max(best, 100 * sum(of_all) / len(answers))
    return best


# ---- scores ----

TEXTS = ["", "the", "a cat", "Cat!", "cat dog", "the dog", "dog, cat", ".", "An", "bird"]


def drawn(seed: int, count: int = 30) -> tuple[dict[str, list[str]], dict[str, str]]:
    draw = random.Random(seed)
    answers = {str(i): draw.choices(TEXTS[1:], k=draw.choice([0, 0, 1, 3])) for i in range(count)}
    return answers, {name: draw.choice(TEXTS) for name in answers}


def rows_of(answers: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "title": "t",
            "question": "who",
            "context": "c",
            "answers": {"text": texts, "answer_start": [0] * len(texts)},
        }
        for name, texts in answers.items()
    ]


@pytest.fixture
def dataset() -> Callable[[Mapping[str, list[str]]], Any]:
    from datasets import Dataset

    return lambda answers: Dataset.from_list(rows_of(answers))


@pytest.mark.parametrize("seed", range(20))
def test_the_scores_are_those_of_the_official_evaluation(seed: int, dataset: Any) -> None:
    answers, predicted = drawn(seed)
    found = evaluate_predictions(predicted, dataset(answers))
    official = official_evaluation(answers, predicted)
    assert found["exact_match"] == pytest.approx(official["exact"], abs=1e-9)
    assert found["f1"] == pytest.approx(official["f1"], abs=1e-9)
    assert found["has_answer_exact_match"] == pytest.approx(official["HasAns_exact"], abs=1e-9)
    assert found["has_answer_f1"] == pytest.approx(official["HasAns_f1"], abs=1e-9)
    # Two numbers of the official evaluation that are always the same.
    assert found["no_answer"] == pytest.approx(official["NoAns_exact"], abs=1e-9)
    assert found["no_answer"] == pytest.approx(official["NoAns_f1"], abs=1e-9)


@pytest.mark.parametrize(
    ("answers", "predicted", "exact", "f1"),
    [
        ([], "", 100, 100),
        ([], "the", 100, 100),  # nothing is left of it after the normalisation
        ([], "cat", 0, 0),
        (["cat"], "", 0, 0),
        (["the"], "", 100, 100),  # a true answer of which nothing is left counts as none
        (["the", "cat"], "", 0, 0),
    ],
)
def test_the_rules_of_empty_answers(
    answers: list[str], predicted: str, exact: float, f1: float, dataset: Any
) -> None:
    both = {"1": answers, "2": []}  # an unanswerable one, so that the rules of SQuAD 2.0 hold
    found = evaluate_predictions({"1": predicted, "2": ""}, dataset(both))
    assert (2 * found["exact_match"] - 100, 2 * found["f1"] - 100) == (exact, f1)


def test_without_unanswerable_questions_the_rules_and_the_metrics_are_those_of_squad_1_1(
    dataset: Any,
) -> None:
    examples = dataset({"1": ["the"], "2": ["cat"]})
    assert rules_of(examples) == Rules()
    assert list(metrics_of(examples)) == ["exact_match", "f1"]
    found = evaluate_predictions({"1": "", "2": "cat"}, examples)
    assert found == {"exact_match": 100, "f1": 50, "questions": 2, "missing": 0}


def test_the_scores_of_a_part_that_has_no_question_are_left_out(dataset: Any) -> None:
    examples = dataset({"1": [], "2": []})
    assert list(metrics_of(examples)) == ["exact_match", "f1", "no_answer"]
    found = evaluate_predictions({"1": "", "2": "cat"}, examples)
    assert (found["f1"], found["no_answer"], "has_answer_f1" in found) == (50, 50, False)


def test_groups_and_disagreements_know_unanswerable_questions() -> None:
    rows = rows_of({"1": ["cat"], "2": []})
    groups = breakdown({"1": "cat", "2": "cat"}, rows)
    assert groups["answer_length"] == {
        "1": {"questions": 1, "exact_match": 100, "f1": 100},
        "no answer": {"questions": 1, "exact_match": 0, "f1": 0},
    }
    found = disagreements({"1": "cat", "2": ""}, {"1": "cat", "2": "cat"}, rows)
    assert (found["student_right"], found["teacher_right"]) == (1, 0)
    assert found["examples"][0]["references"] == []


# ---- the threshold ----


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ties", [True, False])
def test_the_threshold_gives_the_best_f1_of_the_official_search(seed: int, ties: bool) -> None:
    answers, predicted = drawn(seed)
    draw = random.Random(seed)
    ahead = {n: draw.randint(-3, 3) * 1.0 if ties else draw.uniform(-9, 9) for n in answers}
    threshold = best_threshold(ScoredAnswers(predicted, ahead), answers, SQUAD_2)
    decided = ScoredAnswers(predicted, ahead).at(threshold)
    found = official_evaluation(answers, decided)["f1"]
    # The official search scores a question above the threshold without a look at its true answers' words.
    plainly = {n: [t for t in texts if plain(t)] for n, texts in answers.items()}
    assert found == pytest.approx(official_best_f1(plainly, predicted, ahead), abs=1e-9)
    assert not any(ahead[n] == threshold for n in answers)  # it lies between two of them


def test_of_equally_good_thresholds_the_one_nearest_to_0_is_taken() -> None:
    answers = ScoredAnswers({"1": "x", "2": "y"}, {"1": -5.0, "2": 7.0})
    assert best_threshold(answers, {"1": ["x"], "2": []}, SQUAD_2) == 1.0
    assert best_threshold(answers, {"1": ["x"], "2": ["y"]}, SQUAD_2) == 8.0  # none is empty
    assert best_threshold(answers, {"1": [], "2": []}, SQUAD_2) == -6.0  # all are


def test_a_question_without_a_span_does_not_count_and_none_at_all_is_refused() -> None:
    answers = ScoredAnswers({"1": "", "2": "y"}, {"1": math.inf, "2": 3.0})
    assert best_threshold(answers, {"1": ["x"], "2": ["y"]}, SQUAD_2) == 4.0
    with pytest.raises(UserError, match="cannot be found: the model scores no span"):
        best_threshold(ScoredAnswers({"1": ""}, {"1": math.inf}), {"1": []}, SQUAD_2)


def test_the_threshold_of_a_configuration() -> None:
    assert threshold_of(BertConfig()) is None
    assert threshold_of(BertConfig(null_score_diff_threshold=-2)) == -2.0
    for bad in ("high", True, math.nan, 1e9, [1]):
        with pytest.raises(
            UserError, match=r"null_score_diff_threshold is .*, but must be a number"
        ):
            threshold_of(BertConfig(null_score_diff_threshold=bad))


# ---- decoding ----


def impossible(content: dict[str, Any]) -> dict[str, Any]:
    """Make every second question of a file one that its context does not answer."""
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"][::2]:
                plausible = qa.pop("answers")
                qa |= {"answers": [], "plausible_answers": plausible, "is_impossible": True}
            for qa in paragraph["qas"][1::2]:
                qa["is_impossible"] = False
    return content


def test_the_difference_is_that_of_the_lowest_first_token_and_the_best_span(
    write_squad: Callable[..., Path], squad_content: dict[str, Any], bert_tokenizer: Any
) -> None:
    examples = read_squad(write_squad(impossible(squad_content)), split="validation")
    features = evaluation_features(examples, bert_tokenizer, max_length=48, doc_stride=12)
    assert len(features) > len(examples)  # some questions have several windows
    generator = np.random.default_rng(0)
    shape = (len(features), max(features["length"]))
    start, end = (generator.normal(size=shape).astype(np.float32) for _ in range(2))
    found = answers_and_differences(start, end, features, examples, max_answer_length=7)
    for row in examples:
        windows = [i for i, name in enumerate(features["example_id"]) if name == row["id"]]
        null = min(float(start[i, 0] + end[i, 0]) for i in windows)
        best = max(
            float(start[i, a] + end[i, b])
            for i in windows
            for a in range(features[i]["length"])
            for b in range(a, min(a + 7, features[i]["length"]))
            if features[i]["char_start"][a] >= 0 and features[i]["char_end"][b] > 0
        )
        assert found.differences[row["id"]] == null - best
    metrics = SquadMetrics(examples, features, max_answer_length=7, threshold=0.0)
    scores = metrics(EvalPrediction(predictions=(start, end), label_ids=None))
    empty = {name for name, text in metrics.predictions.items() if text == ""}
    assert empty == {name for name, d in found.differences.items() if d > 0}
    expected = official_evaluation(
        {row["id"]: row["answers"]["text"] for row in examples}, metrics.predictions
    )
    assert scores["f1"] == pytest.approx(expected["f1"])
    assert scores["has_answer_f1"] == pytest.approx(expected["HasAns_f1"])


def test_an_unanswerable_question_points_to_the_first_token(
    write_squad: Callable[..., Path], squad_content: dict[str, Any], bert_tokenizer: Any
) -> None:
    examples = read_squad(write_squad(impossible(squad_content)), split="train")
    features = training_features(examples, bert_tokenizer, max_length=512)
    for row, window in zip(examples, features, strict=True):
        pointed = window["start_positions"], window["end_positions"]
        assert (pointed == (0, 0)) == (not row["answers"]["text"])


def test_a_logit_that_is_nan_at_the_first_token_is_refused(
    write_squad: Callable[..., Path], bert_tokenizer: Any
) -> None:
    examples = read_squad(write_squad(), split="validation")
    features = evaluation_features(examples, bert_tokenizer, max_length=512)
    logits = np.zeros((len(features), max(features["length"])), dtype=np.float32)
    broken = logits.copy()
    broken[0, 0] = np.nan
    with pytest.raises(UserError, match="NaN at the first token"):
        answers_and_differences(broken, logits, features, examples)
