"""What makes two trainings the same one, so that a checkpoint is resumed by its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json, write_text

IDENTITY_NAME = "identity.json"
SAMPLED_ROWS = 256


def data_digest(dataset: Any) -> str:
    """A digest of a map-style data set: its length and up to 256 rows spread over it."""
    total = len(dataset)
    digest = hashlib.sha256(str(total).encode())
    for i in range(min(total, SAMPLED_ROWS)):
        row = dataset[i * total // min(total, SAMPLED_ROWS)]
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def weights_digest(model: nn.Module) -> str:
    """A digest of the names and values of all weights of a model."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def write_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Put the identity of a run into its checkpoint."""
    text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
    write_text(folder / IDENTITY_NAME, text)


def check_identity(
    folder: Path, identity: dict[str, Any], assumed: dict[str, Any] | None = None
) -> None:
    """Refuse a checkpoint of another run.

    Args:
        folder: of the checkpoint.
        identity: of the run that resumes.
        assumed: the values that hold where the checkpoint does not record them, because it was written before they
            were a part of the identity; None for all others.

    Raises:
        UserError: names everything that differs.
    """
    assumed = json.loads(json.dumps(assumed or {}, default=str))

    def complete(values: dict[str, Any]) -> dict[str, Any]:
        # Null stands for the default of some arguments, because the oldest checkpoints have no entry for them.
        return assumed | {k: v for k, v in values.items() if v is not None or k not in assumed}

    recorded = read_json(folder / IDENTITY_NAME)
    if not isinstance(recorded, dict):
        raise UserError(
            f"{folder / IDENTITY_NAME} is no JSON object, so it is not as it was written."
        )
    before, identity = complete(recorded), complete(json.loads(json.dumps(identity)))
    differences = [
        f"{name} is {identity.get(name)!r} now and was {before.get(name)!r}"
        for name in sorted(before.keys() | identity.keys())
        if before.get(name) != identity.get(name)
    ]
    if differences:
        raise UserError(
            f"{folder} belongs to another run: {'; '.join(differences)}. Resume with the same, or train into "
            "another output_dir."
        )
