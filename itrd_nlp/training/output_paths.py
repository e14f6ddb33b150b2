"""Whether a file or a folder may be written, decided before the work begins.

A job never writes over what it reads, nor over what somebody else has written, nor over anything but a regular file.
Where an argument names a link to a file, the job writes the file that the link leads to.
"""

from __future__ import annotations

import fnmatch
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError

SYSTEM_FOLDERS = ("/dev", "/proc", "/sys")

Source = str | Path | None
"""A file, a folder or the id of a model that a job reads. What does not exist on this machine cannot be overwritten."""


def check_target_file(
    path: str | Path,
    *,
    option: str,
    inputs: Iterable[Source] = (),
    ours: Callable[[Path], bool] = lambda _: True,
) -> Path:
    """Refuse to write a file where something would be lost.

    Args:
        path: the file to write or to replace.
        option: the argument that names it, for the message.
        inputs: what the job reads. The file must be none of it, and replace nothing in a folder of it.
        ours: whether an existing file is one that such a job has written. Default: any regular file may be replaced,
            because the argument names it.

    Returns:
        The file to write. Where ``path`` is a link to a file, it is the file that the link leads to: whoever reads that
        file would keep the old one if the link were replaced.

    Raises:
        UserError: the folder does not exist, or the file must not be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder, but must be a file.")
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}.")
    target = _target_of(path, option)
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path}: the folder {target.parent} does not let you write.")
    if not os.path.lexists(path):
        return path
    if not path.is_file():
        raise UserError(f"{option} {path} is no regular file, so it cannot be replaced by one.")
    for source in _existing(inputs):
        if path.samefile(source) or _inside(path, source):
            raise UserError(
                f"{option} {path} is {_part_of(path, source)}, which is read, so it must stay; name another file."
            )
    if not ours(path):
        raise UserError(
            f"{option} {path} exists and was not written by this command, so it is not replaced; name another file."
        )
    return target


def _target_of(path: Path, option: str) -> Path:
    """The file that a path leads to, link by link; the path itself where it is no link to a file.

    Raises:
        UserError: a link on the way lies in a folder of the system. `/dev/stdout` leads to the file into which a shell
            writes at the same time.
    """
    at = path
    while True:
        here = at.parent.resolve() / at.name
        system = any(here.is_relative_to(folder) for folder in SYSTEM_FOLDERS)
        if system and not here.is_relative_to("/dev/shm"):  # whose files are regular ones
            raise UserError(
                f"{option} {path} is no regular file of a disk: it leads to {here}; name another file."
            )
        if not here.is_symlink() or not here.is_file():  # the second also ends a loop of links
            return path if at is path else here
        at = here.parent / os.readlink(here)


def check_target_folder(
    path: str | Path,
    *,
    option: str,
    written: Sequence[str],
    ours: Callable[[Path], bool],
    inputs: Iterable[Source] = (),
) -> None:
    """Refuse to write into a folder where something would be lost.

    Args:
        path: the folder. It may be missing.
        option: the argument that names it, for the message.
        written: names of the files and folders that the job writes there, or patterns of them such as
            ``checkpoint-*``.
        ours: whether an existing folder is one that such a job has written, so that these names are its own.
        inputs: what the job reads. The folder must be none of it, and the job must write over none of it.

    Raises:
        UserError: the folder is a file, or the job must not write into it.
    """
    path = Path(path)
    if os.path.lexists(path) and not path.is_dir():
        what = "a file" if path.is_file() else "no folder"
        raise UserError(f"{option} {path} is {what}, but must be a folder.")
    if not path.is_dir():
        return
    existing = [
        entry
        for entry in sorted(path.iterdir())
        if any(fnmatch.fnmatch(entry.name, pattern) for pattern in written)
    ]
    within = False
    for source in _existing(inputs):
        if path.samefile(source):
            raise UserError(
                f"{option} {path} is the folder of {source}, which is read, so it must stay; name another folder."
            )
        for entry in existing:
            if entry.samefile(source) or _inside(source, entry):
                raise UserError(
                    f"{option} {path} would have its {entry.name} replaced, but {source} is read from there; name "
                    "another folder."
                )
        within = within or _inside(path, source)
    for entry in existing:
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise UserError(
                f"{entry} is no regular file or folder, so it cannot be replaced by one."
            )
    foreign = sorted(path.iterdir()) if within else existing
    if foreign and not ours(path):
        raise UserError(
            f"{option} {path} holds {foreign[0].name}, but no run of this package has written it; name another folder."
        )


def check_writable(folder: str | Path, *, option: str) -> None:
    """Refuse a folder that cannot be written, or be made, before any work.

    Args:
        folder: the folder. It may be missing, and so may those above it.
        option: the argument that names it, for the message.

    Raises:
        UserError: names the folder that does not let this process write.
    """
    folder = Path(folder)
    at = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        # Tried, and not asked: the answer of the kernel knows no read-only disk of a network, and nothing of /sys.
        with tempfile.TemporaryFile(dir=at):
            pass
    except OSError as error:
        raise UserError(
            f"{option} {folder} cannot be written: {at} does not let you write ({error.strerror})."
        ) from None


def made_folder(folder: str | Path, *, option: str) -> Path:
    """The folder, which is made where it is missing. See `check_writable`."""
    check_writable(folder, option=option)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def holds_rows(*keys: str) -> Callable[[Path], bool]:
    """A check that a file is empty, or JSON lines whose first object has one of these keys."""

    def check(path: Path) -> bool:
        with path.open("rb") as file:
            line = file.readline(2**20)
        row = _json(line)
        return not line or (isinstance(row, dict) and not row.keys().isdisjoint(keys))

    return check


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _existing(inputs: Iterable[Source]) -> list[Path]:
    """The inputs that are files or folders of this machine."""
    return [Path(source) for source in inputs if source is not None and os.path.exists(source)]


def _inside(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder, links followed."""
    return (
        folder.is_dir()
        and path.resolve() != folder.resolve()
        and (path.resolve().is_relative_to(folder.resolve()))
    )


def _part_of(path: Path, source: Path) -> str:
    return f"a part of {source}" if source.is_dir() else str(source)
