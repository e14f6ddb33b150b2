"""A trainer of tiny models, whose arguments a test changes one by one."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.trainer import ITRDTrainer


@pytest.fixture
def make_itrd(tmp_path: Any, teacher: Any, make_rows: Any, collate: Any) -> Any:
    """Make an `ITRDTrainer`. What it does not take itself are training arguments."""

    def make_itrd(
        student: Any = None,
        *,
        teacher: Any = teacher,
        rows: Any = None,
        eval_rows: Any = None,
        given: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ITRDTrainer:
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 4,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
        }
        rows = make_rows(16) if rows is None else rows
        trainer_arguments: dict[str, Any] = {
            "train_dataset": datasets.Dataset.from_list(rows) if isinstance(rows, list) else rows,
            "eval_dataset": datasets.Dataset.from_list(eval_rows) if eval_rows else None,
            "data_collator": collate,
        }
        return ITRDTrainer(
            model=student,
            teacher=teacher,
            args=ITRDTrainingArguments(**(defaults | kwargs)),
            **(trainer_arguments | (given or {})),
        )

    return make_itrd
