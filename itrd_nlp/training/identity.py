"""The identity of a training: all that a checkpoint and the run that resumes from it must have in common."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json, write_text
from itrd_nlp.training.generators import same_generators

IDENTITY_NAME = "identity.json"
VERSION = 2
"""Of the file. Version 1 named no version, few arguments, and 256 rows of the data."""

SAMPLED_ROWS = 256
_BATCH_ROWS = 4096

# From a model with weights of integers to its digest. bitsandbytes packs them in another way when they are first used.
_packed: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


# ---- data and weights ----


def data_digest(dataset: Any) -> str:
    """Return a digest of every row of a map-style data set.

    Equal rows give equal digests. Chunks, order of columns and format of a `datasets.Dataset` make no difference. Rows
    that are random, such as augmented images, do not count: then length and class of the data set stand for it. The
    generators of random numbers are as they were.
    """
    digest = hashlib.sha256(str(len(dataset)).encode())
    if isinstance(dataset, Dataset):
        tables = dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS)
        for table in tables:
            for name in sorted(table.column_names):
                digest.update(name.encode())
                for part in _leaves(table[name].combine_chunks()):
                    digest.update(part)
        return digest.hexdigest()[:16]
    with same_generators() as drawn:
        rows = digest.copy()
        for i in range(len(dataset)):
            rows.update(_row(dataset[i], default=_plain))
        # A data set may have a generator of its own.
        random_rows = drawn() or sampled_digest(dataset) != sampled_digest(dataset)
    if random_rows:
        digest.update(type(dataset).__qualname__.encode())
    return (digest if random_rows else rows).hexdigest()[:16]


def sampled_digest(dataset: Any) -> str:
    """Return the digest of version 1: of the length of a map-style data set, and of up to 256 rows spread over it."""
    total = len(dataset)
    digest = hashlib.sha256(str(total).encode())
    with same_generators():
        for i in range(min(total, SAMPLED_ROWS)):
            row = dataset[i * total // min(total, SAMPLED_ROWS)]
            digest.update(_row(row, default=str))
    return digest.hexdigest()[:16]


def weights_digest(model: nn.Module) -> str:
    """Return a digest of the names and values of all weights of a model."""
    if model in _packed:
        return _packed[model]
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        for part in _weight(value):
            digest.update(part)
    found = digest.hexdigest()[:16]
    if any(not p.is_floating_point() for p in model.parameters()):
        _packed[model] = found
    return found


def _weight(value: Any) -> Iterator[Any]:
    """Yield an entry of a model's state as bytes. Weights that are quantised may be no plain tensors."""
    if isinstance(value, tuple | list):  # dynamic quantisation of torch packs weight and bias
        for part in value:
            yield from _weight(part)
    elif not isinstance(value, torch.Tensor):
        yield repr(value).encode()
    elif is_traceable_wrapper_subclass(value):  # torchao keeps integers and scales in one tensor
        names, context = value.__tensor_flatten__()
        yield repr((type(value).__name__, context)).encode()
        for name in names:
            yield from _weight(getattr(value, name))
    else:
        plain = value.dequantize() if value.is_quantized else value
        yield plain.detach().cpu().flatten().view(torch.uint8).numpy().data


def _leaves(array: Any) -> Iterable[bytes]:
    """Yield the values of an Arrow array as bytes. They do not depend on the layout of its buffers."""
    if isinstance(array, pa.ChunkedArray):  # a column without chunks, or too large for one
        for chunk in array.chunks:
            yield from _leaves(chunk)
        return
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    yield np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes()
    if pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary_decode())
    elif pa.types.is_struct(kind):
        for field, values in zip(kind, array.flatten(), strict=True):
            yield field.name.encode()
            yield from _leaves(values)
    elif (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        yield pc.list_value_length(array).fill_null(0).cast(pa.int64()).to_numpy().tobytes()
        yield from _leaves(pc.list_flatten(array))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        yield str(kind).encode()
        yield array.fill_null(0).to_numpy(zero_copy_only=False).tobytes()
    else:
        yield str(kind).encode()
        yield _row(array.to_pylist(), default=_plain)


def _row(row: Any, default: Any) -> bytes:
    return json.dumps(row, sort_keys=True, default=default).encode()


def _plain(value: Any) -> Any:
    """Return all of a value that JSON does not know. The text of a large tensor would leave its middle out."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    pillow = sys.modules.get("PIL.Image")  # without it, no value is an image of it
    if pillow is not None and isinstance(value, pillow.Image):
        return [value.mode, value.size, hashlib.sha256(value.tobytes()).hexdigest()]
    # The address of an object in the memory is another one in each process.
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


# ---- the file ----


def as_stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON gives them back."""
    stored: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return stored


def write_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    """Put the identity of a run into its checkpoint."""
    text = json.dumps(identity, indent=1, sort_keys=True, default=str) + "\n"
    write_text(folder / IDENTITY_NAME, text)


def check_identity(
    folder: Path,
    identity: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    objective: Iterable[str],
    version_1: Mapping[str, Any],
) -> None:
    """Refuse a checkpoint of another run.

    A checkpoint of version 1 is compared in its own entries and in the arguments of the objective. The arguments that
    it does not record had their defaults.

    Args:
        folder: folder of the checkpoint.
        identity: identity of the run that resumes.
        defaults: defaults of the arguments. They hold for an argument that is younger than the checkpoint.
        objective: names of the arguments of the objective.
        version_1: entries of the identity that version 1 made in another way.

    Raises:
        UserError: names everything that differs.
    """
    now, defaults = as_stored(identity), as_stored(defaults)
    before = read_json(folder / IDENTITY_NAME)
    if not isinstance(before, dict):
        raise UserError(
            f"{folder / IDENTITY_NAME} is no JSON object, so it is not as it was written."
        )
    if "version" in before:
        before = {name: defaults[name] for name in now if name in defaults} | before
    else:
        assumed = {name: defaults[name] for name in objective if name in now}
        before = _completed(before, assumed)
        now = {name: value for name, value in now.items() if name in before} | as_stored(version_1)
        now = _completed(now, assumed)
    differences = [
        f"{name} is {now.get(name)!r} now and was {before.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if name != "version" and before.get(name) != now.get(name)
    ]
    if differences:
        raise UserError(
            f"{folder} belongs to another run: {'; '.join(differences)}. Resume with the same values, train into "
            "another output_dir, or start anew with --overwrite_output_dir true."
        )


def _completed(values: dict[str, Any], assumed: dict[str, Any]) -> dict[str, Any]:
    """Put defaults in the place of missing entries, and of null, by which version 1 names some defaults."""
    return assumed | {k: v for k, v in values.items() if v is not None or k not in assumed}
