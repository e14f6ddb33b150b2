"""How alike the layers of a student and its teacher are: a measurement for the report, which no run needs."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from itrd_nlp.errors import UserError
from itrd_nlp.models.placing import put_on
from itrd_nlp.models.similarity import layer_similarity, similarity_bytes
from itrd_nlp.tasks.jobs.runs import optional
from itrd_nlp.tasks.jobs.speed import even_steps
from itrd_nlp.tasks.task import TaskData

WINDOWS = 64
LARGEST_GB = 4.0
"""The sums lie beside both models on the device of the training. They are not worth more memory than this."""


def layers_alike(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    data: TaskData,
    device: torch.device,
    *,
    when: str,
) -> dict[str, Any] | None:
    """Compare the layers of both models over features of all lengths of the evaluation.

    Args:
        student: a student. It is moved to the device, and so is the teacher.
        teacher: its teacher.
        data: the task's data.
        device: of the training.
        when: ``before`` or ``after`` the training, for the warning.

    Returns:
        See `layer_similarity`. None where the layers could not be compared, or the sums would take more than
        `LARGEST_GB`. A warning then gives the reason.
    """
    with optional(f"how alike the layers are {when} the training"):
        gigabytes = similarity_bytes(student, teacher) / 1e9
        if gigabytes > LARGEST_GB:
            raise UserError(
                f"its sums would take {gigabytes:.1f} GB of memory, but at most {LARGEST_GB:g} GB are spent on them."
            )
        for model in (student, teacher):
            put_on(model, torch.device(device))
        return layer_similarity(student, teacher, _batches(data))
    return None


def _batches(data: TaskData) -> list[Any]:
    features = data.evaluation
    chosen = features.select(even_steps(len(features), WINDOWS))
    columns = ("input_ids", "token_type_ids")
    rows = chosen.select_columns([c for c in columns if c in chosen.column_names]).to_list()
    return [data.collator(rows[i : i + 16]) for i in range(0, len(rows), 16)]
