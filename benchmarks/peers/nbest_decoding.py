"""The usual decoding and scoring of spans, with Python loops over the questions.

The code pairs the 20 best starts of every window with its 20 best ends. It drops pairs outside of the context, pairs in
the wrong order, and pairs that are too long. The best pair of all windows of a question is the answer. The scoring
normalises each answer and compares it with each reference. The question-answering examples of transformers use the same
algorithm.
"""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict

import numpy as np
from datasets import Dataset


def answers(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    features: Dataset,
    examples: Dataset,
    *,
    n_best: int = 20,
    max_answer_length: int = 30,
) -> dict[str, str]:
    """Find the best span of each question. `itrd_nlp.tasks.question_answering.best_answers` explains the arguments."""
    windows = defaultdict(list)
    for i, identifier in enumerate(features["example_id"]):
        windows[identifier].append(i)
    found = {}
    for example in examples:
        candidates: list[tuple[float, int, int]] = []
        for i in windows[example["id"]]:
            window = features[i]
            first, last = window["char_start"], window["char_end"]
            starts = np.argsort(start_logits[i])[: -n_best - 1 : -1].tolist()
            ends = np.argsort(end_logits[i])[: -n_best - 1 : -1].tolist()
            for s in starts:
                for e in ends:
                    if s >= len(first) or e >= len(first) or first[s] < 0 or first[e] < 0:
                        continue
                    if e < s or e - s + 1 > max_answer_length:
                        continue
                    score = float(start_logits[i][s] + end_logits[i][e])
                    candidates.append((score, first[s], last[e]))
        best = max(candidates, default=(0.0, 0, 0), key=lambda candidate: candidate[0])
        found[example["id"]] = example["context"][best[1] : best[2]]
    return found


def score(predictions: dict[str, str], examples: Dataset) -> dict[str, float]:
    """Compute EM and F1 in percent by the definition of SQuAD 1.1."""
    exact, f1 = 0.0, 0.0
    for example in examples:
        prediction = predictions[example["id"]]
        references = example["answers"]["text"]
        exact += max(_normal(prediction) == _normal(reference) for reference in references)
        f1 += max(_f1(prediction, reference) for reference in references)
    return {"exact_match": 100 * exact / len(examples), "f1": 100 * f1 / len(examples)}


def _normal(text: str) -> str:
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _f1(prediction: str, reference: str) -> float:
    said, meant = _normal(prediction).split(), _normal(reference).split()
    common = sum((Counter(said) & Counter(meant)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(meant)
    return 2 * precision * recall / (precision + recall)
