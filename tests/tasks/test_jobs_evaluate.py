"""Judging a model beside a training: it neither pushes nor reports as that training does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from transformers import BertConfig, BertModel

from itrd_nlp.tasks.jobs import evaluate
from itrd_nlp.training.arguments import FineTuningArguments


class Seen(Exception):
    """Ends the judging where the trainer is made."""


def test_the_scores_of_a_teacher_do_not_reach_the_trackers_of_its_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[FineTuningArguments] = []

    def trainer(args: FineTuningArguments, **others: Any) -> None:
        found.append(args)
        raise Seen

    monkeypatch.setattr(evaluate, "BaseTrainer", trainer)
    args = FineTuningArguments(
        str(tmp_path), report_to="tensorboard", push_to_hub=True, use_cpu=True
    )
    data: Any = SimpleNamespace(trainer_kwargs=dict)
    task: Any = None
    model: Any = nn.Linear(1, 1)
    with pytest.raises(Seen):
        evaluate.judge(task, model, data, args)
    assert (found[0].report_to, found[0].push_to_hub) == ([], False)
    assert (args.report_to, args.push_to_hub) == (["tensorboard"], True)


@pytest.mark.parametrize(("trained", "afterwards"), [(False, 0.0), (True, 4.0)])
def test_a_threshold_that_was_found_for_a_teacher_is_not_left_to_its_student(
    trained: bool, afterwards: float
) -> None:
    """Else the student would be judged otherwise where the teacher's scores lie in a cache."""
    judge, seen = SimpleNamespace(threshold=0.0), []

    def calibrate(data: Any, *_: Any, trained: bool) -> dict[str, float]:
        data.judge.threshold = 4.0
        return {"threshold": 4.0}

    def found(_: Any) -> dict[str, float]:
        seen.append(judge.threshold)
        return {"eval_f1": 50.0, "eval_runtime": 1.0}

    page = SimpleNamespace(unit="questions")
    task: Any = SimpleNamespace(
        calibrate=calibrate, name="question-answering", metrics_of=lambda _: {"f1": "F1"}, page=page
    )
    data: Any = SimpleNamespace(judge=judge, evaluation=[], examples=[], signature="a", digest="b")
    trainer: Any = SimpleNamespace(evaluate=found)
    model = BertModel(
        BertConfig(vocab_size=4, hidden_size=2, num_attention_heads=1, num_hidden_layers=1)
    )
    record = evaluate.evaluate_trainer(task, trainer, model, data, trained=trained)
    assert (seen, judge.threshold) == ([4.0], afterwards)
    assert record.decoding == {"threshold": 4.0}
