"""The sums of a training that its checkpoints carry, so that a resumed run reports the whole of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from itrd_nlp.files import write_text

PROGRESS_NAME = "progress.json"


@dataclass
class Progress:
    """The time and the sums of a training, which ``trainer_state.json`` of transformers does not hold.

    Attributes:
        seconds: wall time of all parts of the training.
        loss: sum of the losses of all steps up to the last log.
        loss_since_log: sum of the losses of the steps after it, the mean over all processes.
        last_logged: the step of the last log.
        skipped_steps: number of steps that the gradient scaler of fp16 skipped.
        terms: sums of the loss terms since the last log, by name.
    """

    seconds: float
    loss: float = 0.0
    loss_since_log: float = 0.0
    last_logged: int = 0
    skipped_steps: int = 0
    terms: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, checkpoint: Path) -> Self | None:
        """Read the progress in a checkpoint. Checkpoints of earlier versions have none, and give None."""
        path = checkpoint / PROGRESS_NAME
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def write(self, checkpoint: Path) -> None:
        """Write the progress into a checkpoint."""
        write_text(checkpoint / PROGRESS_NAME, json.dumps(asdict(self), indent=1) + "\n")


def metrics_of_the_whole(
    metrics: Mapping[str, float], *, loss: float, seconds: float, steps: int, part: int
) -> dict[str, float]:
    """Return the metrics of a whole training, from those that transformers computes of its last part.

    Args:
        metrics: ``train_runtime``, ``train_samples_per_second`` and others of the last part.
        loss: sum of the losses of all steps.
        seconds: wall time of all parts.
        steps: number of all steps.
        part: number of the steps in the last part.
    """
    whole = {
        "train_loss": loss / max(steps, 1),
        "train_runtime": round(seconds, 4),
        "train_steps_per_second": round(steps / seconds, 3),
    }
    if part and "train_samples_per_second" in metrics:
        samples = metrics["train_samples_per_second"] * metrics["train_runtime"] * steps / part
        whole["train_samples_per_second"] = round(samples / seconds, 3)
    return whole
