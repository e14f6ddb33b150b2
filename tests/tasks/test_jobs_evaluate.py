"""Judging a model beside a training: it neither pushes nor reports as that training does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

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
    data: Any = SimpleNamespace(of_trainer=dict)
    task: Any = None
    model: Any = nn.Linear(1, 1)
    with pytest.raises(Seen):
        evaluate.judge(task, model, data, args)
    assert (found[0].report_to, found[0].push_to_hub) == ([], False)
    assert (args.report_to, args.push_to_hub) == (["tensorboard"], True)
