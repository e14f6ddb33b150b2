"""TextBrewer's training step on SQuAD with its own `GeneralDistiller` and the settings of its SQuAD notebook.

A comment gives the source of every setting of TextBrewer's repository, version 0.2.1: "notebook" is
`examples/notebook_examples/sqaudv1.1.ipynb`, and "matches" is `examples/matches/matches.py`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from benchmarks.training import wait_for_gpu


def adaptor(batch: Any, output: Any) -> dict[str, Any]:
    """Adapt the outputs as in the notebook. Without mask and label loss, padding counts and hard labels do not."""
    return {"logits": (output.start_logits, output.end_logits), "hidden": output.hidden_states}


def matches(student_layers: int, teacher_layers: int) -> list[dict[str, Any]]:
    """Match embeddings and mapped layers by MMD, like L3_hidden_smmd and L6_hidden_smmd in "matches"."""
    step = teacher_layers // student_layers
    return [
        {
            "layer_T": [step * i] * 2,
            "layer_S": [i] * 2,
            "feature": "hidden",
            "loss": "mmd",
            "weight": 1,
        }
        for i in range(student_layers + 1)
    ]


class Clocked:
    """Batches that record the time of each request. Only the first and the last one wait for a GPU."""

    def __init__(self, batches: list[dict[str, torch.Tensor]]) -> None:
        self.batches = batches
        self.times: list[float] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        wait_for_gpu()
        for batch in self.batches:
            self._note()
            yield batch
        wait_for_gpu()
        self._note()

    def _note(self) -> None:
        self.times.append(time.perf_counter())


class UnderAutocast(nn.Module):
    """A model that runs under bf16 autocast, which TextBrewer does not support."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: torch.Tensor) -> Any:
        with torch.autocast(inputs["input_ids"].device.type, dtype=torch.bfloat16):
            return self.model(**inputs)


def seconds_per_step(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    batches: Iterable[dict[str, torch.Tensor]],
    folder: Path,
    *,
    bf16: bool,
    fused: bool = False,
) -> list[float]:
    """Train once on the batches and time each step.

    Args:
        teacher: the teacher. Its configuration is set to return hidden states, as in the notebook.
        student: the student. Its configuration is set to return hidden states and gives its dropout.
        batches: batches with labels, which the notebook passes to both models.
        folder: folder for logs.
        bf16: run both models under bf16 autocast. The notebook does not.
        fused: update the weights by the fused AdamW, as our trainer does. The notebook does not. Default: false.

    Returns:
        The seconds from one batch to the next.
    """
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    for model in (teacher, student):
        model.config.output_hidden_states = True  # notebook
    clocked = Clocked(list(batches))
    layers = (student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    distiller = GeneralDistiller(
        # notebook: TrainingConfig() with all its defaults. Folders and device are ours.
        train_config=TrainingConfig(
            output_dir=str(folder / "models"), log_dir=str(folder / "logs"), device=student.device
        ),
        # notebook
        distill_config=DistillationConfig(temperature=1, intermediate_matches=matches(*layers)),
        model_T=UnderAutocast(teacher) if bf16 else teacher,
        model_S=UnderAutocast(student) if bf16 else student,
        adaptor_T=adaptor,
        adaptor_S=adaptor,
    )
    # TextBrewer writes a checkpoint before the last step ends. No other candidate writes one.
    distiller.save_and_callback = lambda *_: None
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=fused)  # notebook
    steps = len(clocked)
    with distiller:
        distiller.train(
            optimizer,
            clocked,
            1,
            scheduler_class=get_linear_schedule_with_warmup,  # notebook, 10 % warm-up
            scheduler_args={
                "num_warmup_steps": int(0.1 * steps),
                "num_training_steps": steps,
            },
            callback=None,
        )
    return [after - before for before, after in itertools.pairwise(clocked.times)]
