"""A cache on disk for the hidden states and logits of a frozen teacher, which computes each window only once.

    FOLDER/TEACHER/hidden-4/type         the kind and the dtype of the records
                            SHARD.bin    the bytes of the records, one after the other
                            SHARD.idx    their keys, places and checksums

A record holds the valid tokens of one window in one layer, or the logits of the window. Its key is a digest of the
window's inputs. Epochs, subsets, resumed runs and runs with other layers therefore share records. Every process appends
to its own shards and reads the shards of all processes. Records are never rewritten. A killed process may leave a
record half-written. Such a record has no entry, or its checksum fails, and the teacher computes the window again.
"""

from __future__ import annotations

import hashlib
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

from itrd_nlp.files import writing
from itrd_nlp.losses.outputs import EncoderOutput
from itrd_nlp.models.encode import LOGITS

logger = logging.getLogger(__name__)

SHARD_BYTES = 2**30
"""A process starts a new shard when its shard is larger than this, in bytes."""

_ENTRY = struct.Struct("<16sQII")  # key, offset, bytes, CRC-32
_NO_KEY = bytes(16)
_PROBE_BYTES = 64 * 2**20


class TeacherCache:
    """The outputs of one teacher on disk.

    Hidden states are stored in bfloat16, and logits in their own dtype. Padding is not stored; reading fills it with
    zeros.

    Args:
        folder: folder for this teacher alone, see `itrd_nlp.distillation.teacher.cache_folder`. It is made if it is
            missing.
        max_bytes: largest size of the cache in bytes. A full cache stores no more windows, but still reads.

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
        self._room = max_bytes - sum(path.stat().st_size for path in folder.glob("*/*.bin"))
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
        mask = _mask(inputs)
        names = [name for name in LOGITS if logits and (self.folder / name).is_dir()]
        keys = row_keys(inputs)
        records: dict[str, list[bytes]] = {}
        if logits and not names:
            self.misses += len(keys)
            return None
        for name in [*map(_hidden, layers), *names]:
            found = [self._stream(name).get(key) for key in keys]
            whole = [record for record in found if record is not None]
            if len(whole) < len(keys):
                self.misses += len(keys)
                return None
            records[name] = whole
        self.hits += len(keys)
        return EncoderOutput(
            logits={name: self._stream(name).unpack(records[name], mask) for name in names},
            hidden_states={
                layer: self._stream(_hidden(layer)).unpack(records[_hidden(layer)], mask)
                for layer in layers
            },
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
        mask = _mask(inputs).cpu()
        keys = row_keys(inputs)
        tensors = {
            _hidden(layer): z.to(torch.bfloat16) for layer, z in output.hidden_states.items()
        }
        for name, value in (tensors | output.logits).items():
            stream = self._stream(name)
            stream.describe(value)
            rows = value.detach().cpu()
            for key, row, valid in zip(keys, rows, mask, strict=True):
                if key in stream:
                    continue
                row = row[valid] if stream.per_token else row
                data = row.contiguous().view(torch.uint8).numpy().tobytes()
                if len(data) > self._room:
                    self._stop(f"it has reached its limit (cache_max_gb) in {self.folder}")
                    return
                try:
                    stream.put(key, data)
                except OSError as error:
                    self._stop(f"{self.folder} cannot be written: {os.strerror(error.errno or 0)}")
                    return
                self._room -= len(data)

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
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.dtype = torch.bfloat16
        self.per_token = True
        # Each token has one number instead of a vector.
        self._scalars = False
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
        """Write the kind and the dtype of the records, unless they are already known.

        Args:
            value: the tensor of a batch: vectors of tokens ``(B, L, d)``, numbers of tokens ``(B, L)``, or logits of
                windows ``(B, C)``.
        """
        path = self.folder / "type"
        if path.exists():
            return
        name = self.folder.name
        kind = "window"
        if name in ("start_logits", "end_logits"):
            kind = "token"
        elif value.dim() == 3:
            kind = "vector"
        temporary = path.with_name(f"type.{uuid.uuid4().hex}")
        temporary.write_text(f"{kind} {str(value.dtype).removeprefix('torch.')}", encoding="utf-8")
        temporary.replace(path)
        self._read_description()

    def _read_description(self) -> None:
        path = self.folder / "type"
        if path.exists():
            kind, dtype = path.read_text(encoding="utf-8").split()
            self.dtype = getattr(torch, dtype)
            self.per_token = kind != "window"
            self._scalars = kind == "token"

    def refresh(self) -> None:
        """Read the entries that other processes have added."""
        for path in sorted(self.folder.glob("*.idx")):
            if path.stem not in self._shards:
                self._shards.append(path.stem)
                self._tables.append(bytearray())
            shard = self._shards.index(path.stem)
            table = self._tables[shard]
            if path.stat().st_size < len(table) + _ENTRY.size:
                continue
            with path.open("rb") as file:
                file.seek(len(table))
                new = file.read()
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
        data = b""
        if (reader := self._reader(shard)) is not None:
            data = os.pread(reader, size, offset)
        if len(data) == size and zlib.crc32(data) == checksum:
            return data
        logger.warning(
            "A window in %s is damaged. The teacher computes it again.",
            self.folder / f"{self._shards[shard]}.bin",
        )
        del self._index[key]
        path = self.folder / f"{self._shards[shard]}.idx"
        if path.exists():  # erase the entry for later runs, too
            with path.open("r+b") as file:
                file.seek(number * _ENTRY.size)
                file.write(bytes(_ENTRY.size))
        return None

    def put(self, key: bytes, data: bytes) -> None:
        """Append a record: first its bytes, and then its entry. A record without an entry does not exist."""
        if self._own is None or self._own[1].tell() > SHARD_BYTES:
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
        flat = torch.frombuffer(bytearray(b"".join(records)), dtype=self.dtype)
        if not self.per_token:
            return flat.view(len(records), -1).to(mask.device)
        valid = mask.cpu()
        rows = flat.view(int(valid.sum()), -1)
        result = rows.new_zeros((*valid.shape, rows.shape[1]))
        result[valid] = rows
        return (result.squeeze(-1) if self._scalars else result).to(mask.device)

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


def row_keys(inputs: dict[str, Tensor]) -> list[bytes]:
    """Return a digest of each row of a batch. It does not depend on the padded length of the batch.

    Args:
        inputs: tensors whose first dimension is the batch. Tensors of ``(B, L)`` count only where the attention mask is
            true.

    Returns:
        One key of 16 bytes for each row.
    """
    valid = _mask(inputs).cpu()
    values = {name: x.cpu() for name, x in sorted(inputs.items()) if name != "attention_mask"}
    keys = []
    for row, mask in enumerate(valid):
        digest = hashlib.blake2b(digest_size=_ENTRY.size // 2)
        for name, value in values.items():
            part = value[row][mask] if value.shape == valid.shape else value[row]
            digest.update(name.encode())
            digest.update(part.contiguous().numpy().tobytes())
        keys.append(digest.digest())
    return keys


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


def _mask(inputs: dict[str, Tensor]) -> Tensor:
    if "attention_mask" in inputs:
        return inputs["attention_mask"].bool()
    return torch.ones_like(inputs["input_ids"], dtype=torch.bool)


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
