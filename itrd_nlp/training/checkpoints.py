"""Checkpoints are whole or not there: a trainer writes them aside, seals them with a manifest and renames them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from itrd_nlp.errors import UserError
from itrd_nlp.files import sha256, to_disk, write_text

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
STAGING_NAME = ".incomplete-checkpoint"


def seal(folder: Path) -> None:
    """Write the manifest of a folder, with size and sha256 of every file, and bring all of it to the disk."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST_NAME):
        files[str(path.relative_to(folder))] = {
            "size": path.stat().st_size,
            "sha256": sha256(path),
        }
        to_disk(path)
    manifest = folder / MANIFEST_NAME
    write_text(manifest, json.dumps(files, indent=1) + "\n")
    to_disk(manifest)
    to_disk(folder)


def damage(folder: Path) -> str | None:
    """Say in a few words why a checkpoint cannot be used. None means that it is as it was written."""
    if not folder.exists():
        return "it is missing"
    if not folder.is_dir():
        return "it is no folder"
    manifest = folder / MANIFEST_NAME
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST_NAME}, so it was not written to its end"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST_NAME} cannot be read"
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if sha256(path) != digest:
            return f"{name} does not have the contents it was written with"
    return None


def checkpoints(output_dir: Path) -> list[Path]:
    """List the checkpoints of a run, the newest first. Damaged ones are among them."""
    found = []
    for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if path.is_dir() and step.isdigit():
            found.append((int(step), path))
    return [path for _, path in sorted(found, reverse=True)]


def last_good_checkpoint(output_dir: Path) -> Path | None:
    """Find the newest checkpoint that is whole. A warning names each damaged one that is newer.

    Returns:
        The folder of the checkpoint, or None if there is no checkpoint at all.

    Raises:
        UserError: there are checkpoints, and every one is damaged.
    """
    passed_over = []
    for path in checkpoints(output_dir):
        reason = damage(path)
        if reason is None:
            return path
        logger.warning("%s is damaged (%s); taking the one before it.", path, reason)
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
