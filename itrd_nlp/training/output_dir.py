"""The folder of a run: one process trains in it at a time, and no run meets the checkpoints of another."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from itrd_nlp.errors import UserError
from itrd_nlp.files import writing
from itrd_nlp.training.arguments import FineTuningArguments, output_folder
from itrd_nlp.training.checkpoints import (
    MODEL_ALONE,
    checkpoints,
    damage,
    holds_training,
    last_good_checkpoint,
)

logger = logging.getLogger(__name__)

LOCK_NAME = ".lock"
# Values of resume_from_checkpoint that name no folder.
NOTHING = (None, False, "false", "False")
NEWEST = (True, "true", "True")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder. The lock ends with this process, and its file goes with it.

    Record locks belong to a process, so workers that load data do not hold them after a kill. A file system without
    locks gives a warning.

    Args:
        folder: folder of the run. It is made if it is missing.

    Raises:
        UserError: another process trains in the folder, or the folder cannot be written.
    """
    path = folder / LOCK_NAME
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path)
    with contextlib.closing(file):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def check_output_dir(args: FineTuningArguments) -> None:
    """Refuse the folder of a run before models and data are loaded. The trainer looks again, and holds it.

    Args:
        args: arguments of the training.

    Raises:
        UserError: another process trains in the folder, or the checkpoint to resume from is missing or damaged; or see
            `check_checkpoints`.
    """
    folder, wanted = output_folder(args), args.resume_from_checkpoint
    if args.process_index > 0:
        return
    if wanted not in (*NOTHING, *NEWEST):
        find_checkpoint(folder, wanted)
    if not folder.is_dir():
        return
    resumed: Path | None = Path(str(wanted))
    if wanted in NOTHING:
        resumed = None
    elif wanted in NEWEST:
        resumed = next(iter(checkpoints(folder)), None)
    with locked(folder):
        check_checkpoints(folder, resumed, overwrite=args.overwrite_output_dir)


def find_checkpoint(folder: Path, wanted: str | bool | None) -> Path | None:
    """Find the checkpoint that a run takes up.

    Args:
        folder: folder of the run.
        wanted: a checkpoint, True (or "true") for the newest whole one of the folder, or None (or "false").

    Returns:
        The checkpoint, or None for a run that starts anew.

    Raises:
        UserError: the checkpoint does not exist, is damaged or holds the model alone, or all in the folder do.
    """
    if wanted in NOTHING:
        return None
    if wanted in NEWEST:
        found = last_good_checkpoint(folder)
        if found is None:
            logger.warning("%s holds no checkpoint to resume from; starting anew.", folder)
        return found
    path = Path(str(wanted))
    if not path.exists():
        raise UserError(f"resume_from_checkpoint {path} does not exist.")
    reason = damage(path)
    if reason is not None:
        raise UserError(
            f"resume_from_checkpoint {path} is damaged: {reason}; --resume_from_checkpoint true takes the newest "
            "whole one."
        )
    if not holds_training(path):
        raise UserError(f"resume_from_checkpoint {path} {MODEL_ALONE}.")
    return path


def check_checkpoints(folder: Path, resumed: Path | None, *, overwrite: bool) -> None:
    """Refuse a folder whose checkpoints would mix with those of the run that begins.

    Args:
        folder: folder of the run.
        resumed: the checkpoint that the run takes up, or None for a run that starts anew.
        overwrite: the run may remove the checkpoints.

    Raises:
        UserError: the folder has checkpoints, and the run neither takes one up nor may remove them.
    """
    inside = resumed is not None and resumed.resolve().parent == folder.resolve()
    if inside and overwrite:
        raise UserError(
            f"overwrite_output_dir is true, but resume_from_checkpoint takes up {resumed}, which would be removed; "
            "give one of the two."
        )
    found = checkpoints(folder)
    if found and not inside and not overwrite:
        raise UserError(
            f"output_dir {folder} holds {found[0].name} of an earlier run; go on with that run by "
            "--resume_from_checkpoint true, remove its checkpoints by --overwrite_output_dir true, or name another "
            "output_dir."
        )


def remove_checkpoints(folder: Path) -> None:
    """Remove every checkpoint of an earlier run from a folder, and nothing else."""
    for path in checkpoints(folder):
        logger.warning("Removing %s of an earlier run.", path)
        with writing(path):
            shutil.rmtree(path)


def _open_locked(path: Path) -> IO[str]:
    """Open a file and lock it. The file of an earlier owner, who is about to remove it, is not taken."""
    while True:
        file = path.open("w", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                logger.warning("%s cannot be locked: %s.", path.parent, error.strerror)
                return file
            file.close()
            raise UserError(
                f"output_dir {path.parent} is in use by another training; wait until it ends, or name another "
                "output_dir."
            ) from None
        # No second open of the file here: closing it would give the lock away.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
