"""Checkpoints are whole or not there: a trainer writes them aside, seals them with a manifest and renames them."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from itrd_nlp.errors import UserError
from itrd_nlp.files import MANIFEST_NAME, damage, seal

__all__ = [
    "MANIFEST_NAME",
    "MODEL_ALONE",
    "STAGING_NAME",
    "checkpoints",
    "damage",
    "holds_training",
    "last_good_checkpoint",
    "own_names",
    "seal",
]

logger = logging.getLogger(__name__)

STAGING_NAME = ".incomplete-checkpoint"
MODEL_ALONE = "holds the model alone (save_only_model), so no run can go on from it"
"""The reason against a checkpoint for which `holds_training` is false."""


@contextlib.contextmanager
def own_names(model: nn.Module) -> Iterator[None]:
    """Let ``save_pretrained`` write the weights under the names that they have in the model.

    transformers would write the names of the checkpoint that the model came from, such as ``LayerNorm.gamma`` of the
    first BERT models. Whoever then reads the file as the state of the model would find no such weight.

    Args:
        model: the model that is saved in the body. Only one of transformers is affected.
    """
    if not isinstance(model, PreTrainedModel):
        yield
        return
    instance: Any = model  # a method of this object alone is replaced
    instance.save_pretrained = partial(model.save_pretrained, save_original_format=False)
    try:
        yield
    finally:
        del instance.save_pretrained


def checkpoints(output_dir: Path) -> list[Path]:
    """List the checkpoints of a run, the newest first. Damaged ones are among them."""
    found = []
    for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if path.is_dir() and step.isdigit():
            found.append((int(step), path))
    return [path for _, path in sorted(found, reverse=True)]


def holds_training(checkpoint: Path) -> bool:
    """Return whether a checkpoint holds what a run goes on from, beside the model: optimizer and schedule."""
    of_deepspeed = any(checkpoint.glob("global_step*"))
    return of_deepspeed or (checkpoint / "scheduler.pt").is_file()


def last_good_checkpoint(output_dir: Path) -> Path | None:
    """Find the newest checkpoint from which a run can go on. A warning names each newer one that is passed over.

    Returns:
        The folder of the checkpoint, or None if there is no checkpoint at all.

    Raises:
        UserError: there are checkpoints, and every one is damaged or holds the model alone.
    """
    passed_over = []
    for path in checkpoints(output_dir):
        reason = damage(path)
        if reason is not None:
            logger.warning("%s is damaged (%s); taking the one before it.", path, reason)
        elif holds_training(path):
            return path
        else:
            reason = f"it {MODEL_ALONE}"
            logger.warning("%s %s; taking the one before it.", path, MODEL_ALONE)
        passed_over.append(f"{path.name}: {reason}")
    if passed_over:
        raise UserError(
            f"{output_dir} holds no checkpoint that is whole ({'; '.join(passed_over)}); start anew with "
            "--overwrite_output_dir true."
        )
    return None


def rotate_checkpoints(
    output_dir: Path, limit: int | None, *, newest: Path, best: Path | None
) -> None:
    """Remove checkpoints, the oldest first, until no more than `limit` are left.

    A checkpoint with a higher number than the newest one was passed over when the run resumed, because it is damaged or
    because an earlier one was named. It goes before all others.

    Args:
        output_dir: folder of the run.
        limit: number of checkpoints to keep; None or 0 keeps all.
        newest: the checkpoint that was just written. It stays.
        best: the best checkpoint so far, or None. It stays.
    """
    if not limit or limit < 0:
        return
    found = checkpoints(output_dir)
    position = found.index(newest)
    order = found[:position] + found[:position:-1]
    removable = [path for path in order if best is None or path.resolve() != best.resolve()]
    protected = len(found) - len(removable)
    for path in removable[: max(len(found) - max(limit, protected), 0)]:
        shutil.rmtree(path, ignore_errors=True)
