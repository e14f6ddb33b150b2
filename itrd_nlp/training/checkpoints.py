"""Checkpoints that are whole or not there: written aside, sealed with a manifest, renamed."""

from __future__ import annotations

import logging
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from itrd_nlp.errors import UserError
from itrd_nlp.files import MANIFEST_NAME, damage, seal

__all__ = [
    "MANIFEST_NAME",
    "STAGING_NAME",
    "checkpoints",
    "damage",
    "last_good_checkpoint",
    "seal",
]

logger = logging.getLogger(__name__)

STAGING_NAME = ".incomplete-checkpoint"


def checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints of a run, damaged ones included, the newest first."""
    found = []
    for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if path.is_dir() and step.isdigit():
            found.append((int(step), path))
    return [path for _, path in sorted(found, reverse=True)]


def last_good_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that is whole. Each damaged one that is passed over is named in a warning.

    Returns:
        None if there is no checkpoint at all.

    Raises:
        UserError: there are checkpoints, and every one is damaged.
    """
    passed_over = []
    for path in checkpoints(output_dir):
        reason = damage(path)
        if reason is None:
            return path
        logger.warning("%s is damaged (%s); taking the one before.", path, reason)
        passed_over.append(f"{path.name}: {reason}")
    if passed_over:
        raise UserError(
            f"{output_dir} holds no checkpoint that is whole ({'; '.join(passed_over)}); remove them to start anew."
        )
    return None
