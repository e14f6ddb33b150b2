"""EM and F1 of SQuAD 1.1 as a module for `evaluate`, which needs no network."""

from __future__ import annotations

from typing import Any

import evaluate
from datasets import Features, Value

from itrd_nlp.tasks.question_answering.scoring import score

_DESCRIPTION = "Exact match and F1 of SQuAD 1.1, in percent, by the official definition."
_INPUTS = """
Args:
    predictions: dicts with `id` and `prediction_text`; a text of None counts as missing, that is 0.
    references: dicts with `id` and `answers`, the latter with the lists `text` and `answer_start`.
Returns:
    `exact_match` and `f1`, from 0 to 100.
"""
_CITATION = """
@inproceedings{rajpurkar2016squad,
  title = {{SQuAD}: 100,000+ Questions for Machine Comprehension of Text},
  author = {Rajpurkar, Pranav and Zhang, Jian and Lopyrev, Konstantin and Liang, Percy},
  booktitle = {Proceedings of EMNLP},
  year = {2016}
}
"""


class SquadEMF1(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """`evaluate` metric with the two numbers of `itrd_nlp.tasks.question_answering.scoring.score`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=Features(
                {
                    "predictions": {"id": Value("string"), "prediction_text": Value("string")},
                    "references": {
                        "id": Value("string"),
                        "answers": {"text": [Value("string")], "answer_start": [Value("int32")]},
                    },
                }
            ),
        )

    def _compute(
        self, predictions: list[dict[str, Any]], references: list[dict[str, Any]]
    ) -> dict[str, float]:
        return score(
            {
                row["id"]: row["prediction_text"]
                for row in predictions
                if row["prediction_text"] is not None
            },
            {row["id"]: row["answers"]["text"] for row in references},
        )
