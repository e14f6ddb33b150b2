"""A cache on disk for the hidden states and logits of a frozen teacher, which computes each window only once.

    FOLDER/TEACHER/hidden-4/type         the kind and the dtype of the records
                            SHARD.bin    the bytes of the records, one after the other
                            SHARD.idx    their keys, places and checksums

A record holds the valid tokens of one window in one layer, or the logits of the window. Its key is a digest of the
window's inputs. Epochs, subsets, resumed runs and runs with other layers therefore share records. Every process appends
to its own shards and reads the shards of all processes. Records are never rewritten. A killed process may leave a
record half-written. Such a record has no entry, or its checksum fails, and the teacher computes the window again. The
same happens where an index or a type is damaged, or a file is missing. Nothing in this folder stops a training.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itrd_nlp.distillation.windows import KEY_BYTES, row_keys, valid_tokens
from itrd_nlp.files import read_text, writing
from itrd_nlp.losses.outputs import SPAN_LOGITS, EncoderOutput
from itrd_nlp.models.encode import LOGITS

logger = logging.getLogger(__name__)

SHARD_BYTES = 2**30
"""A process starts a new shard when its shard is larger than this, in bytes."""

_ENTRY = struct.Struct(f"<{KEY_BYTES}sQII")  # key, offset, bytes, CRC-32
_NO_KEY = bytes(KEY_BYTES)
_PROBE_BYTES = 64 * 2**20
# The types that outputs of a teacher may have, by their names on disk.
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
}
# The logits of a span head, and those of all other heads.
_HEADS = ([*SPAN_LOGITS], ["logits"])


class TeacherCache:
    """The outputs of one teacher on disk.

    Hidden states are stored in bfloat16, and logits in their own dtype. Padding is not stored; reading fills it with
    zeros.

    Args:
        folder: folder for this teacher alone, see `itrd_nlp.distillation.cache_folder`. It is made if it is
            missing.
        max_bytes: largest size of the cache in bytes, whoever writes into it. A full cache stores no more windows, but
            still reads. Each process may exceed it by a batch.

    Attributes:
        hits: number of windows that were read.
        misses: number of windows that were missing.

    Raises:
        UserError: the folder cannot be written.

    Example:
        >>> cache = TeacherCache(Path("cache"), max_bytes=10**10)  # doctest: +SKIP
        >>> output = cache.read(batch, layers=[2, 4], logits=True)  # doctest: +SKIP
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.hits = 0
        self.misses = 0
        self._streams: dict[str, _Stream] = {}
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._max_bytes = max_bytes
        self._room = 0
        self._full = False

    def read(
        self, inputs: dict[str, Tensor], *, layers: Sequence[int], logits: bool
    ) -> EncoderOutput | None:
        """Read the teacher's output for a batch.

        Args:
            inputs: inputs of the teacher: ``input_ids (B, L)``, ``attention_mask (B, L)`` and others.
            layers: layers of the hidden states.
            logits: read the logits, too.

        Returns:
            The output, on the device of the inputs. It is None if a part of a window is missing or damaged.
        """
        mask = valid_tokens(inputs)
        names = [name for name in LOGITS if logits and (self.folder / name).is_dir()]
        keys = row_keys(inputs)
        found: dict[str, Tensor] = {}
        complete = not logits or names in _HEADS
        for name in [*map(_hidden, layers), *names] if complete else []:
            value = self._stream(name).read(keys, mask)
            if value is None:
                complete = False
                break
            found[name] = value
        if not complete:
            self.misses += len(keys)
            return None
        self.hits += len(keys)
        return EncoderOutput(
            logits={name: found[name] for name in names},
            hidden_states={layer: found[_hidden(layer)] for layer in layers},
        )

    def write(self, inputs: dict[str, Tensor], output: EncoderOutput) -> None:
        """Store the teacher's output for a batch. Windows that are already stored stay unchanged.

        If the disk is full or the cache reaches ``max_bytes``, the cache warns once and stores no more windows. The
        training continues.

        Args:
            inputs: inputs of the teacher: ``input_ids (B, L)``, ``attention_mask (B, L)`` and others.
            output: output of the teacher for these inputs.
        """
        if self._full:
            return
        mask = valid_tokens(inputs).cpu()
        keys = row_keys(inputs)
        tensors = {
            _hidden(layer): z.to(torch.bfloat16) for layer, z in output.hidden_states.items()
        }
        try:
            # Other processes write meanwhile, and the limit holds for all of them.
            used = sum(path.stat().st_size for path in self.folder.glob("*/*.bin"))
            self._room = self._max_bytes - used
            for name, value in (tensors | output.logits).items():
                if not self._put(self._stream(name), value, keys, mask):
                    self._stop(f"it has reached its limit (cache_max_gb) in {self.folder}")
                    return
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            self._stop(f"{self.folder} cannot be written: {reason}")

    def _put(self, stream: _Stream, value: Tensor, keys: list[bytes], mask: Tensor) -> bool:
        """Append the rows of a tensor that are not stored. False means that the cache has no room for them."""
        stream.describe(value)
        for key, row, valid in zip(keys, value.detach().cpu(), mask, strict=True):
            if key in stream:
                continue
            row = row[valid] if stream.per_token else row
            data = row.contiguous().view(torch.uint8).numpy().tobytes()
            if len(data) > self._room:
                return False
            stream.put(key, data)
            self._room -= len(data)
        return True

    def _stop(self, why: str) -> None:
        self._full = True
        logger.warning("The teacher cache stores no more windows: %s. The training continues.", why)

    def _stream(self, name: str) -> _Stream:
        if name not in self._streams:
            self._streams[name] = _Stream(self.folder / name)
        return self._streams[name]


class _Stream:
    """The records of one tensor, found by their keys. Records are appended and never changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Kind and dtype of the records. None: they are not known, because the file is missing or damaged.
        self._description: tuple[str, torch.dtype] | None = None
        self._shards: list[str] = []
        self._tables: list[bytearray] = []
        self._readers: dict[int, int] = {}
        # From a key to its shard and the number of its entry.
        self._index: dict[bytes, tuple[int, int]] = {}
        # The shard of this process, its .bin file and its .idx file.
        self._own: tuple[int, Any, Any] | None = None
        self._read_description()
        self.refresh()

    def __contains__(self, key: bytes) -> bool:
        return key in self._index

    def describe(self, value: Tensor) -> None:
        """Write the kind and the dtype of the records, unless they are already known to be these.

        Args:
            value: the tensor of a batch: vectors of tokens ``(B, L, d)``, numbers of tokens ``(B, L)``, or logits of
                windows ``(B, C)``.
        """
        name = self.folder.name
        kind = "window"
        if name in SPAN_LOGITS:
            kind = "token"
        elif value.dim() == 3:
            kind = "vector"
        if self._description == (kind, value.dtype):
            return
        self.folder.mkdir(exist_ok=True)
        path = self.folder / "type"
        temporary = path.with_name(f"type.{uuid.uuid4().hex}")
        try:
            temporary.write_text(f"{kind} {str(value.dtype).removeprefix('torch.')}", "utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._description = (kind, value.dtype)

    @property
    def per_token(self) -> bool:
        """Whether a record has one part for each token, and none for padding."""
        return self._description is not None and self._description[0] != "window"

    def _read_description(self) -> None:
        try:
            kind, name = read_text(self.folder / "type").split()
            dtype = _DTYPES[name]
        except (ValueError, KeyError):  # missing, or damaged: describe() writes it anew
            return
        if (kind, dtype) in self._possible(dtype):
            self._description = (kind, dtype)

    def _possible(self, dtype: torch.dtype) -> list[tuple[str, torch.dtype]]:
        """The descriptions that the records of this name may have."""
        if self.folder.name.startswith("hidden-"):
            return [("vector", torch.bfloat16)]
        if self.folder.name in SPAN_LOGITS:
            return [("token", dtype)]
        return [("vector", dtype), ("window", dtype)]

    def read(self, keys: list[bytes], mask: Tensor) -> Tensor | None:
        """Read the records of a batch into one tensor, with zeros where the mask ``(B, L)`` is false.

        Returns:
            The tensor on the device of the mask. It is None if a record is missing or damaged.
        """
        if self._description is None:
            self._read_description()  # another process may have written it
        if self._description is None:
            return None
        found = [self.get(key) for key in keys]
        records = [record for record in found if record is not None]
        if len(records) < len(keys):
            return None
        try:
            return self.unpack(records, mask)
        except (RuntimeError, ValueError):  # they contradict the type, so they are stored anew
            for key in set(keys):
                self._forget(key)
            self._description = None
            return None

    def refresh(self) -> None:
        """Read the entries that other processes have added."""
        for path in sorted(self.folder.glob("*.idx")):
            if path.stem not in self._shards:
                self._shards.append(path.stem)
                self._tables.append(bytearray())
            shard = self._shards.index(path.stem)
            table = self._tables[shard]
            try:
                if path.stat().st_size < len(table) + _ENTRY.size:
                    continue
                with path.open("rb") as file:
                    file.seek(len(table))
                    new = file.read()
            except OSError:  # its windows are computed again
                continue
            first = len(table) // _ENTRY.size
            new = new[: len(new) // _ENTRY.size * _ENTRY.size]
            table += new
            for number, (key, *_) in enumerate(_ENTRY.iter_unpack(new), start=first):
                if key != _NO_KEY:
                    self._index[key] = (shard, number)

    def get(self, key: bytes) -> bytes | None:
        """Read the record of a key. The result is None if the record is missing or damaged."""
        if key not in self._index:
            self.refresh()
        place = self._index.get(key)
        if place is None:
            return None
        shard, number = place
        _, offset, size, checksum = _ENTRY.unpack_from(self._tables[shard], number * _ENTRY.size)
        data = self._bytes(shard, offset, size)
        if data and len(data) == size and zlib.crc32(data) == checksum:
            return data
        logger.warning(
            "A window in %s is damaged. The teacher computes it again.",
            self.folder / f"{self._shards[shard]}.bin",
        )
        self._forget(key)
        return None

    def _forget(self, key: bytes) -> None:
        """Erase the entry of a key, for later runs, too. Where the disk refuses, they find the damage themselves."""
        shard, number = self._index.pop(key)
        path = self.folder / f"{self._shards[shard]}.idx"
        with contextlib.suppress(OSError), path.open("r+b") as file:
            file.seek(number * _ENTRY.size)
            file.write(bytes(_ENTRY.size))

    def _bytes(self, shard: int, offset: int, size: int) -> bytes:
        """Read a part of a shard. A damaged entry may name a part that is not there; then there are no bytes."""
        try:
            reader = self._reader(shard)
            if reader is None or offset + size > os.fstat(reader).st_size:
                return b""
            return os.pread(reader, size, offset)
        except OSError:
            return b""

    def put(self, key: bytes, data: bytes) -> None:
        """Append a record: first its bytes, and then its entry. A record without an entry does not exist."""
        if self._own is None or self._own[1].tell() > SHARD_BYTES:
            self.folder.mkdir(exist_ok=True)
            name = uuid.uuid4().hex
            self._shards.append(name)
            self._tables.append(bytearray())
            self._own = (
                len(self._shards) - 1,
                (self.folder / f"{name}.bin").open("ab", buffering=0),
                (self.folder / f"{name}.idx").open("ab", buffering=0),
            )
        shard, records, entries = self._own
        offset = records.tell()
        _write_all(records, data)
        entry = _ENTRY.pack(key, offset, len(data), zlib.crc32(data))
        _write_all(entries, entry)
        self._index[key] = (shard, len(self._tables[shard]) // _ENTRY.size)
        self._tables[shard] += entry

    def unpack(self, records: list[bytes], mask: Tensor) -> Tensor:
        """Join the records of a batch into one tensor, with zeros where the mask ``(B, L)`` is false."""
        assert self._description is not None
        kind, dtype = self._description
        flat = torch.frombuffer(bytearray(b"".join(records)), dtype=dtype)
        if kind == "window":
            return flat.view(len(records), -1).to(mask.device)
        valid = mask.cpu()
        rows = flat.view(int(valid.sum()), 1 if kind == "token" else -1)
        result = rows.new_zeros((*valid.shape, rows.shape[1]))
        result[valid] = rows
        return (result.squeeze(-1) if kind == "token" else result).to(mask.device)

    def _reader(self, shard: int) -> int | None:
        if shard not in self._readers:
            try:
                self._readers[shard] = os.open(
                    self.folder / f"{self._shards[shard]}.bin", os.O_RDONLY
                )
            except FileNotFoundError:
                return None
        return self._readers[shard]

    def __del__(self) -> None:
        for reader in self._readers.values():
            os.close(reader)


def read_speed(folder: Path) -> float:
    """Measure how many bytes this disk reads per second.

    The kernel is told to drop the test file from its page cache, so that the disk must read it.

    Args:
        folder: an existing folder on the disk.
    """
    path = folder / f"probe.{uuid.uuid4().hex}"
    try:
        with path.open("wb") as file:
            file.write(os.urandom(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        zlib.crc32(path.read_bytes())
        return _PROBE_BYTES / (time.perf_counter() - started)
    finally:
        path.unlink(missing_ok=True)


def _hidden(layer: int) -> str:
    return f"hidden-{layer}"


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
