"""Checkpoints that are whole or not there: written aside, sealed with a manifest, renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from itrd_nlp.errors import UserError

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
STAGING_NAME = ".incomplete-checkpoint"

# How torch.save reports a disk that takes no more: a RuntimeError of its zip writer, or of C++ streams.
_TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "iostream")


def seal(folder: Path) -> None:
    """Write the manifest of a folder, size and sha256 of every file, and bring all of it to the disk."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST_NAME):
        files[str(path.relative_to(folder))] = {
            "size": path.stat().st_size,
            "sha256": _sha256(path),
        }
        _to_disk(path)
    manifest = folder / MANIFEST_NAME
    manifest.write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
    _to_disk(manifest)
    _to_disk(folder)


def publish(staged: Path, final: Path) -> None:
    """Move a sealed folder to its final name. What was there before is replaced, and never half there."""
    replaced = final.with_name(f".replaced-{final.name}")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    staged.rename(final)
    _to_disk(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if it is as it was written."""
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
        if _sha256(path) != digest:
            return f"{name} does not have the contents it was written with"
    return None


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


@contextlib.contextmanager
def writing(path: Path, then: str = "") -> Iterator[None]:
    """Turn what a full or read-only disk raises into one sentence about `path`.

    Args:
        path: what is being written.
        then: a sentence to add, such as what is still there.

    Raises:
        UserError: writing failed.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno:
            reason = os.strerror(error.errno)
        elif isinstance(error, RuntimeError) and any(name in str(error) for name in _TORCH_WRITER):
            reason = "torch.save could not write its file, as on a full disk"
        elif isinstance(error, RuntimeError):
            raise
        else:
            reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path} cannot be written: {reason}. {then}".strip()) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
