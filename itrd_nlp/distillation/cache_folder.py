"""The folder in which the outputs of a teacher are cached. Each model that computes other outputs has its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HOME
from torch import nn

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.files import read_text, write_text
from itrd_nlp.models.low_bits import low_bit_weights
from itrd_nlp.training.identity import weights_digest

# Entries of a configuration that leave the outputs as they are: paths, versions, and the dtype, which the folder names.
_NOT_IN_DIGEST = (
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "base_model_name_or_path",
    "revision",
    "peft_version",
    "inference_mode",
    "output_hidden_states",
    "output_attentions",
    "return_dict",
    "use_cache",
)


def cache_folder(model: nn.Module, args: ITRDTrainingArguments) -> Path:
    """Return the folder in which the cache keeps the outputs of this teacher.

    Teachers with different weights, dtypes, classes or configurations have different folders. Two embedders of equal
    weights, for example, give other vectors where their pooling differs.

    Args:
        model: the teacher.
        args: training arguments. ``teacher_cache_dir`` is the parent folder; by default it is
            ``itrd_nlp/teacher_cache`` in ``HF_HOME``.
    """
    folder = Path(args.teacher_cache_dir or Path(HF_HOME) / "itrd_nlp" / "teacher_cache")
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    weights, forward = weights_digest(model), _forward_digest(model)
    plain = folder / f"{weights}-{dtype}"
    # Classes of this package and of PEFT differ from others of the same weights. Others seldom do.
    if type(model).__module__.startswith("transformers.") and _is_free_for(plain, forward):
        return plain
    return folder / f"{weights}-{forward}-{dtype}"


def _is_free_for(folder: Path, forward: str) -> bool:
    """Return whether a folder without a digest in its name is that of this model. A new folder is from now on.

    A file beside the folder holds the digest. Earlier versions wrote none.
    """
    claim = folder.with_name(f"{folder.name}.reading")
    try:
        if claim.is_file():
            return read_text(claim) == forward
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_text(claim, forward)
    except (OSError, UserError):  # whoever opens the cache says it
        return True
    return True


def _forward_digest(model: nn.Module) -> str:
    """Return a digest of what a model does with its weights.

    That is its class, its configuration, that of its adapters, and the bits in which it reads its weights.
    """
    config = getattr(model, "config", None)
    known = {} if config is None else config.to_diff_dict()
    parts = [
        [kind.__qualname__ for kind in type(model).__mro__],
        {name: value for name, value in known.items() if name not in _NOT_IN_DIGEST},
        {
            name: {
                key: value for key, value in adapter.to_dict().items() if key not in _NOT_IN_DIGEST
            }
            for name, adapter in (getattr(model, "peft_config", None) or {}).items()
        },
    ]
    few = {name: layer.bits for name, layer in low_bit_weights(model)}
    parts += [few] if few else []  # an ordinary model has the digest that it always had
    text = json.dumps(parts, sort_keys=True, default=_in_order)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _in_order(value: Any) -> Any:
    """Return a value that JSON does not know. A set of names has another order in each process."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
