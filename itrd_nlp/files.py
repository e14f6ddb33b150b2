"""Files that are whole or not there, and a sentence where one cannot be read or written.

`replacing` and `replacing_folder` write aside and rename. `writing` turns a full disk into one sentence. `seal` notes
what a finished folder holds, and `damage` says whether it still holds that. `read_bytes`, `read_text` and `read_json`
read a file that somebody else may have written: they do not wait for a pipe, and every defect of the file is one
sentence. No text that `write_text` writes holds what `keep_out` was told.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from safetensors import SafetensorError

from itrd_nlp.errors import UserError, first_line

# The words with which torch.save reports a full disk: a RuntimeError of its zip writer, or of C++ streams.
_TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "iostream")
MASK = "***"
MANIFEST_NAME = "manifest.json"
SHORTEST_SECRET = 8  # characters; a shorter one could be a part of any word
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
# One set for the process: a token is kept out of every file, whoever writes it and whatever it is about.
_KEPT_OUT: set[str] = set()


# ---- secrets ----


def keep_out(*secrets: str) -> None:
    """From now on write `MASK` in place of these. Texts of less than 8 characters are passed over."""
    _KEPT_OUT.update(str(secret) for secret in secrets if len(secret) >= SHORTEST_SECRET)


def kept_out() -> frozenset[str]:
    """All that `keep_out` was told in this process."""
    return frozenset(_KEPT_OUT)


def without(text: str, secrets: Iterable[str]) -> str:
    """A text with `MASK` in place of each of the secrets.

    They are looked for as they are: a token is made of characters that neither JSON nor HTML nor YAML escapes.
    """
    for secret in sorted(secrets, key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, MASK)
    return text


# ---- writing ----


@contextlib.contextmanager
def writing(path: Path, then: str = "") -> Iterator[None]:
    """Turn what a full or read-only disk raises into one sentence about `path`.

    Args:
        path: the file or folder that is being written.
        then: a sentence to add, for example about files that are still there.

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
            reason = first_line(error).rstrip(".")
        raise UserError(f"{path} cannot be written: {reason}. {then}".strip()) from error


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a new file that takes the place of `path` when the body ends without an exception.

    Until then it lies under a name of its own in the same folder. After an exception it is removed, and `path` is as it
    was.

    Args:
        path: the file to write or to replace.
        mode: ``w`` for text in UTF-8, ``wb`` for bytes.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it, so that it is whole or not there.

    What `keep_out` was told is masked.
    """
    with replacing(path) as file:
        file.write(without(text, _KEPT_OUT))


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file under a temporary name and rename it, so that it is whole or not there."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def replace_folder(staged: Path, final: Path) -> None:
    """Move a finished folder to its final name. A folder that was there is replaced, and never half there.

    Args:
        staged: the finished folder, on the same disk.
        final: its name. Where it is a link, the folder that it leads to is replaced, and the link stays.
    """
    final = Path(os.path.realpath(final))
    replaced = final.with_name(f".replaced-{final.name}")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    staged.rename(final)
    to_disk(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


@contextlib.contextmanager
def replacing_folder(folder: Path, what: str, own: Iterable[str]) -> Iterator[Path]:
    """Make a fresh folder that takes the place of `folder` at the end, or is removed after an exception.

    Where the body removes it, `folder` stays as it was.

    Args:
        folder: the folder to make or to replace. Where it is a link, that is the folder to which it leads.
        what: what it holds, such as ``an export``, for the message.
        own: patterns of the names that may go with an earlier `folder`. All else would be lost.

    Raises:
        UserError: `folder` is the current folder or holds it, is a file, or holds something else, before the body or
            after it; or writing failed.
    """
    own = tuple(own)
    target = Path(os.path.realpath(folder))  # the disk of a link may be another one
    _check_own(folder, what, own)
    staged = target.with_name(f".incomplete-{target.name}")
    with writing(folder, "Nothing there has changed."):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        try:
            yield staged
            if staged.exists():
                _check_own(folder, what, own)
                replace_folder(staged, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _check_own(folder: Path, what: str, own: Sequence[str]) -> None:
    check_replaceable(folder)
    if folder.is_file():
        raise UserError(f"{folder} is a file, but must be a folder.")
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in own):
            raise UserError(
                f"{folder} holds {name}, which is no part of {what}; name another folder."
            )


def check_replaceable(folder: Path, name: str = "") -> None:
    """Refuse to replace the folder in which this process runs, or one above it, because a shell would be left in none.

    Args:
        folder: to be replaced. It may be missing.
        name: what names it, for the message.

    Raises:
        UserError: the folder is the current one, or holds it.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        return
    if here.is_relative_to(os.path.realpath(folder)):
        raise UserError(
            f"{name} {folder} is or holds the current folder, so it cannot be replaced; name another folder.".strip()
        )


def to_disk(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- folders with a seal ----


def seal(folder: Path) -> None:
    """Write the manifest of a folder, size and sha256 of every file, and bring all of it to the disk."""
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
    """Say in a few words why a folder cannot be used. None means that it is as it was written."""
    if not folder.exists():
        return "it is missing"
    if not folder.is_dir():
        return "it is no folder"
    manifest = folder / MANIFEST_NAME
    if not manifest.exists():
        return f"it has no {MANIFEST_NAME}, so it was not written to its end"
    try:
        files = read_json(manifest)
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"its {MANIFEST_NAME} cannot be read"
    for name, (size, digest) in expected.items():
        path = folder / name
        if not is_inside(name):
            return f"its {MANIFEST_NAME} names {name!r}, which is no file in it"
        if not os.path.isfile(path):  # nor a name that is too long for the disk
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if sha256(path) != digest:
            return f"{name} does not have the contents it was written with"
    return None


# ---- reading ----


def open_file(path: str | Path) -> BinaryIO:
    """Open a file to read its bytes.

    Args:
        path: of a regular file. A pipe would keep its reader waiting, and a device may never end.

    Raises:
        UserError: the path names no regular file, or its file cannot be read. The message is one sentence.
    """
    try:
        # Opened without waiting for a writer; for a regular file the flag has no effect.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # a zero byte, or half a character
        raise UserError(f"{str(path)!r} is no name of a file: {error}.") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a device or a socket"
        raise UserError(f"{path} is {kind}, but must be a file.")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. See `open_file`."""
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Raises:
        UserError: the file cannot be read, or is no such text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 (byte {error.start}).") from None


def read_json(path: str | Path) -> Any:
    """The value of a JSON file.

    Raises:
        UserError: the file cannot be read, or is no JSON that can be used.
    """
    content = read_bytes(path)
    try:
        return parse_json(content)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}.") from None


def parse_json(
    content: str | bytes,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    *,
    halves: bool = False,
) -> Any:
    r"""The value of a JSON text.

    Args:
        content: the text, or its bytes in UTF-8. It may begin with a byte order mark.
        pairs: makes an object of its pairs, as ``object_pairs_hook`` of `json.loads`.
        halves: let through a text with half of a character, such as ``\ud800``, which no file in UTF-8 can hold.

    Raises:
        ValueError: the text is no JSON or cannot be used. The message is a few words without a period.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        value = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=pairs)
        if not halves and _HALF_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} in line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError("a text has half of a character, such as \\ud800") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError as error:
        if "digits" not in str(error):
            raise
        raise ValueError("a whole number has too many digits") from None
    return value


def is_inside(name: object) -> bool:
    """Whether a name that a file gives, such as an index of weights, stays below the folder of that file."""
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name:
        return False
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts


def is_plain_name(name: object) -> bool:
    """Whether a name that a file gives is that of a file beside it."""
    return is_inside(name) and "/" not in str(name)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_record(source: str | Path, **counts: int) -> dict[str, Any]:
    """Return the record of a source of data, which may be a file, a folder or an id of the Hub.

    Args:
        source: as `datasets.load_dataset` takes it: what is a folder here is no id of the Hub.
        counts: how much of it was read.

    Returns:
        See `file_record`. A folder has its name without those above it, and ``file``, which is true: nobody must take
        the name for an id. An id is the name as it is.
    """
    path = Path(source)
    if path.is_file():
        return file_record(path, **counts)
    if path.is_dir():
        return {"name": Path(os.path.abspath(path)).name or str(path), "file": True, **counts}
    return {"name": str(source), **counts}


def file_record(path: str | Path, **counts: int) -> dict[str, Any]:
    """The name of a data file without its folders, its sha256, and how much of it was read."""
    return {"name": Path(path).name, "sha256": sha256(Path(path)), **counts}
