"""Encoders without a head whose output is one vector a text, as sentence-transformers reads and writes them.

An embedder is a model of transformers of the same class name, with the same weights. Its forward returns the pooled
and normalised vector as ``logits``, and it saves the files by which sentence-transformers knows its pooling.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import cached_file
from transformers.utils.generic import ModelOutput

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json, write_text
from itrd_nlp.models.variants import encoder_class_of, variant

MODULES_NAME = "modules.json"
POOLING_NAME = "1_Pooling/config.json"
SENTENCE_FILES = (MODULES_NAME, POOLING_NAME)
"""Files of sentence-transformers beside those of transformers."""

POOLINGS = ("mean", "cls")
_OPTION = "sentence_pooling"  # in the configuration of a model
_PACKAGE = "sentence_transformers.models"
_OLD = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def pooled(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """Return one vector of length 1 for each text.

    Args:
        states: hidden states of the last layer ``(B, L, d)``.
        mask: ``(B, L)``, true where a token is no padding.
        how: ``mean`` over the tokens, or ``cls``, the state of the first one.

    Returns:
        ``(B, d)``, float32.
    """
    states = states.float()
    if how == "cls":
        return F.normalize(states[:, 0], dim=-1)
    weights = mask.to(states.dtype).unsqueeze(-1)
    return F.normalize((states * weights).sum(1) / weights.sum(1).clamp(min=1e-9), dim=-1)


class _Embeds:
    """The part of an embedder that its architecture does not have. See `embedder_class`."""

    def forward(self, *args: Any, labels: Any = None, **kwargs: Any) -> ModelOutput:
        """The vectors as ``logits``, and the hidden states where they are asked for.

        ``labels`` are for the losses of a trainer. They change nothing here.
        """
        kwargs["return_dict"] = True
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        states = output.last_hidden_state
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        how = getattr(self.config, _OPTION, "mean")  # type: ignore[attr-defined]
        found = ModelOutput(logits=pooled(states, mask, how))
        hidden = output.get("hidden_states")
        if hidden is not None:
            found["hidden_states"] = hidden
        return found

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """See `transformers.PreTrainedModel.save_pretrained`. The files of sentence-transformers are written, too."""
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        config: Any = self.config  # type: ignore[attr-defined]
        write_sentence_files(
            Path(save_directory), config.hidden_size, getattr(config, _OPTION, "mean")
        )


def write_sentence_files(folder: Path, width: int, how: str) -> None:
    """Write the files by which sentence-transformers pools and normalises the states of a model.

    Args:
        folder: of the model.
        width: of a vector.
        how: see `pooled`.
    """
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{_PACKAGE}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{_PACKAGE}.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{_PACKAGE}.Normalize"},
    ]
    # Under these names every version of sentence-transformers reads it.
    pooling = {"word_embedding_dimension": width} | {
        name: value == how for name, value in _OLD.items()
    }
    (folder / POOLING_NAME).parent.mkdir(parents=True, exist_ok=True)
    write_text(folder / MODULES_NAME, json.dumps(modules, indent=2) + "\n")
    write_text(folder / POOLING_NAME, json.dumps(pooling, indent=2) + "\n")


@functools.cache
def embedder_class(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Return the class of embedders of an architecture.

    Its name is that of the architecture, so that a saved embedder loads as an ordinary encoder.

    Args:
        base: a class of transformers such as ``BertModel``.
    """
    return variant(base, _Embeds, "labels")


class AutoModelForSentenceEmbedding:
    """The class that loads embedders, as ``AutoModelForTokenClassification`` loads its models."""

    @classmethod
    def from_pretrained(cls, name: str, *, config: Any, **kwargs: Any) -> Any:
        """Load an encoder of any architecture with the pooling that its folder names.

        Args:
            name: folder of the model, or its id on the Hub.
            config: its configuration.
            **kwargs: as for ``AutoModel.from_pretrained``.

        Raises:
            UserError: sentence-transformers would do something else with the states than to pool and normalise them, or
                the architecture is no encoder.
        """
        base = encoder_class_of(config, name)
        how = pooling_of(name, kwargs.get("revision"))
        setattr(config, _OPTION, how or getattr(config, _OPTION, "mean"))
        return embedder_class(base).from_pretrained(name, config=config, **kwargs)


def pooling_of(name: str, revision: str | None = None) -> str | None:
    """Return the pooling of a model of sentence-transformers. It is None if the model names none.

    Args:
        name: folder of the model, or its id on the Hub.
        revision: branch, tag or commit there.

    Raises:
        UserError: the model has other modules than pooling and normalisation, or another pooling than `POOLINGS`.
    """
    modules = _content(name, MODULES_NAME, revision)
    if modules is None:
        return None
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise UserError(f"{name}: {MODULES_NAME} must be a list of the model's modules.")
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    known = {"Transformer", "Pooling", "Normalize"}
    if set(kinds) - known or "Pooling" not in kinds:
        raise UserError(
            f"{name} has the modules {', '.join(kinds)} in {MODULES_NAME}, but an embedder here pools the states of "
            "its encoder and normalises them, and does nothing else."
        )
    folder = str(modules[kinds.index("Pooling")].get("path"))
    content = _content(name, f"{folder}/config.json", revision)
    given = content if isinstance(content, dict) else {}
    modes = given.get("pooling_mode") or [mode for key, mode in _OLD.items() if given.get(key)]
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UserError(
            f"{name} has the pooling {' and '.join(map(str, modes)) or 'none'}, but must have one of "
            f"{', '.join(POOLINGS)}."
        )
    return str(modes[0])


def _content(name: str, file: str, revision: str | None) -> Any:
    """The content of a JSON file of a model, None where it has no such file."""
    if Path(name).is_dir():
        path = Path(name) / file
        return read_json(path) if path.is_file() else None
    found = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
    return None if found is None else read_json(Path(found))
