"""A model whose outputs are NaN is refused by the judge of every task, and its scores never reach a record."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.tasks.classification.data import Kind
from itrd_nlp.tasks.classification.judge import (
    RowsJudge,
    named_answers,
    numbers,
    outputs_of,
    several_answers,
)
from itrd_nlp.tasks.jobs import judging
from itrd_nlp.tasks.jobs.evaluate import evaluate_trainer
from itrd_nlp.tasks.lines import Row
from itrd_nlp.tasks.masked_lm.analysis import MaskedJudge
from itrd_nlp.tasks.masked_lm.features import Masks
from itrd_nlp.tasks.masked_lm.likeness import LikenessJudge
from itrd_nlp.tasks.masked_lm.losses import predicted

NAN = math.nan
NAMES = ["a", "b"]
ROWS: dict[Kind, list[Row]] = {
    "label": [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}],
    "labels": [{"text": "x", "labels": ["a"]}, {"text": "y", "labels": ["a", "b"]}],
    "value": [{"text": "x", "label": 0.5}, {"text": "y", "label": 2.0}],
    "tokens": [{"tokens": ["x"], "labels": ["a"]}, {"tokens": ["y"], "labels": ["b"]}],
}
LOGITS: dict[Kind, Any] = {
    "label": [[2.0, 1.0], [1.0, 2.0]],
    "labels": [[2.0, -1.0], [1.0, 2.0]],
    "value": [[0.5], [2.0]],
    "tokens": [[[2.0, 1.0], [NAN, NAN]], [[1.0, 2.0], [0.0, NAN]]],  # the second place is padding
}


def judged(kind: Kind, logits: torch.Tensor) -> dict[str, float]:
    answer: Any = {
        "label": lambda found: named_answers(found, NAMES, None),
        "labels": lambda found: several_answers(found, NAMES),
        "value": numbers,
        "tokens": lambda found: named_answers(found, NAMES, [[0], [0]]),
    }[kind]
    metric = "pearson" if kind == "value" else "accuracy"
    found = outputs_of(kind)(logits, torch.zeros(2))
    nothing: Any = None
    judge = RowsJudge(ROWS[kind], answer, [metric], None)
    return judge(EvalPrediction(predictions=found.numpy(), label_ids=nothing))


@pytest.mark.parametrize("kind", ROWS)
def test_a_classifier(kind: Kind) -> None:
    logits = torch.tensor(LOGITS[kind])
    assert list(judged(kind, logits).values()) == [pytest.approx(100)]
    logits[1, 0] = NAN
    noun = "judged tokens" if kind == "tokens" else "texts"
    with pytest.raises(UserError, match=f"^the model gives 1 of 2 {noun} logits with NaN, which"):
        judged(kind, logits)


def test_a_masked_language_model() -> None:
    labels = torch.tensor([[IGNORED, 1, IGNORED, 0]])
    masks = [Masks(text=0, positions=[1, 3], true=[1, 0])]
    tokenizer: Any = SimpleNamespace(convert_ids_to_tokens=lambda ids: [f"w{i}" for i in ids])
    judge = MaskedJudge(masks, [0], 1, tokenizer)
    logits = torch.tensor([[[NAN, NAN], [0.0, 0.0], [NAN, NAN], [0.0, 0.0]]])

    def perplexity() -> float:
        found = predicted(logits, labels).numpy()
        return judge(EvalPrediction(predictions=found, label_ids=labels.numpy()))["perplexity"]

    assert perplexity() == pytest.approx(2)
    logits[0, 3, 1] = NAN
    with pytest.raises(UserError, match="the model gives 1 of 2 masked tokens logits with NaN"):
        perplexity()


def test_an_encoder_without_a_head() -> None:
    true = np.ones((3, 2, 4), dtype=np.float32)
    judge = LikenessJudge(lambda: true, [0, 0, 1], 2)
    nothing: Any = None
    assert judge(EvalPrediction(predictions=true, label_ids=nothing)) == {
        "cosine": pytest.approx(100)
    }
    found = true.copy()
    found[:2, 1, 0] = NAN
    with pytest.raises(UserError, match="the model gives 1 of 2 texts states with NaN"):
        judge(EvalPrediction(predictions=found, label_ids=nothing))


def test_a_task_that_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs look at the scores that every task returns: those of a run, and those before a model is quantised."""
    task: Any = SimpleNamespace(
        metrics_of=lambda data: {"points": "Points"},
        calibrate=lambda *arguments, **options: {},
        page=SimpleNamespace(unit="rows", one="row"),
    )
    judge: Any = lambda outputs: {"points": NAN}  # noqa: E731
    data: Any = SimpleNamespace(
        judge=SimpleNamespace(), evaluation=[], collator=None, preprocess_logits=None, examples=[]
    )
    trainer: Any = SimpleNamespace(evaluate=lambda rows: {"eval_points": NAN, "eval_runtime": 1.0})
    sentence = "^the score points of the model is nan, but must be a finite number"
    with pytest.raises(UserError, match=sentence):
        evaluate_trainer(task, trainer, SimpleNamespace(config=None), data)  # type: ignore[arg-type]
    data.judge = judge
    data.judge.predictions = {}
    logits = {"fp32": ((np.zeros(1),), 1.0)}
    monkeypatch.setattr(judging, "model_logits", lambda *arguments, **options: logits)
    monkeypatch.setattr(judging, "milliseconds_per_question", lambda *arguments: {"fp32": 1.0})
    with pytest.raises(UserError, match=sentence):
        judging.judge_forms(task, {"fp32": torch.nn.Identity()}, {"fp32": 1}, data, batch_size=1)
