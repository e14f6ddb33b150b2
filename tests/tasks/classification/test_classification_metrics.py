import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from itrd_nlp.tasks.classification.metrics import ClassificationMetrics, best_class


def judge(found, true, names, *, tokens):
    prediction = EvalPrediction(predictions=np.array(found), label_ids=np.array(true))
    return ClassificationMetrics(names, tokens=tokens)(prediction)


def test_texts_have_the_mean_f1_of_the_classes():
    # Class 0: 2 right, 1 wrongly taken for it, 1 missed. Class 1: 1, 1, 0. Class 2: 0, 0, 1.
    scores = judge([0, 0, 0, 1, 1], [0, 0, 2, 0, 1], ["a", "b", "c"], tokens=False)
    assert scores["accuracy"] == pytest.approx(60.0)
    f1 = [2 * 2 / (2 * 2 + 1 + 1), 2 * 1 / (2 * 1 + 1 + 0), 0.0]
    assert scores["f1"] == pytest.approx(100 * np.mean(f1))


def test_tokens_are_judged_where_they_have_a_label_and_o_counts_for_nothing_in_f1():
    found = [[0, 1, 1, 0], [1, 0, 0, 1]]
    true = [[-100, 1, 0, 0], [1, 1, -100, -100]]
    scores = judge(found, true, ["O", "ANSWER"], tokens=True)
    assert scores["accuracy"] == pytest.approx(100 * 3 / 5)
    precision, recall = 2 / 3, 2 / 3
    assert scores["f1"] == pytest.approx(100 * 2 * precision * recall / (precision + recall))


def test_no_token_named_and_none_to_name_is_no_division_by_0():
    assert judge([[0, 0]], [[0, 0]], ["O", "X"], tokens=True) == {"accuracy": 100.0, "f1": 0.0}
    assert judge([[0, 0]], [[-100, -100]], ["O", "X"], tokens=True)["accuracy"] == 0.0


def test_tokens_without_o_have_the_mean_over_the_classes():
    assert judge([[0, 1]], [[0, 0]], ["A", "B"], tokens=True)["f1"] == pytest.approx(100 / 3)


def test_a_class_that_no_text_has_or_is_taken_for_says_nothing():
    # a: 1 right, 1 missed. b: 1 right, 1 wrongly taken for it. Of c there is nothing.
    scores = judge([0, 1, 1], [0, 0, 1], ["a", "b", "c"], tokens=False)
    assert scores["f1"] == pytest.approx(100 * (2 / 3 + 2 / 3) / 2)


def test_best_class_reads_the_logits_also_beside_hidden_states():
    logits = torch.tensor([[0.1, 0.9], [2.0, 1.0]])
    assert best_class(logits, torch.tensor([0, 1])).tolist() == [1, 0]
    assert best_class((logits, torch.zeros(3)), torch.tensor([0, 1])).tolist() == [1, 0]
