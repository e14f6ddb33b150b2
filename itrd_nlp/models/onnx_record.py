"""The facts about an exported graph that need no torch: its opsets, and the results.json beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json, write_json

OPSET = 20  # the first one with Gelu
OPSETS = range(18, 24)  # what torch's exporter writes
RECORD_NAME = "results.json"
"""It goes along with an export, so that the report and the card know the model. A quantized one has other scores."""
LENGTHS = ("max_length", "doc_stride")
"""The arguments of a training without which a model reads other texts than those that it was trained on."""
_KEPT = ("version", "task", "metrics")


def unmeasured(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a results.json that holds for any form of a model: its task, its metrics and the lengths of texts.

    Args:
        record: the content of the file. What was measured on one form, and where it was trained, is left out.
    """
    kept = {name: record[name] for name in _KEPT if name in record}
    arguments = record.get("arguments")
    if isinstance(arguments, Mapping):
        kept["arguments"] = {name: arguments[name] for name in LENGTHS if name in arguments}
    return kept


def write_unmeasured(folder: Path, target: Path) -> None:
    """Write the results.json of a folder into another one, without measurements.

    Args:
        folder: of the model. Nothing is written where it has no such file, or one of another program.
        target: of another form of the model.
    """
    try:
        record = read_json(folder / RECORD_NAME)
    except UserError:
        return
    if isinstance(record, dict):
        write_json(target / RECORD_NAME, unmeasured(record))
