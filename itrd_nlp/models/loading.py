"""Load models and tokenizers. A model that cannot work is refused with one sentence."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from itrd_nlp.errors import UserError, first_line
from itrd_nlp.files import MANIFEST_NAME, damage
from itrd_nlp.models.fast_attention import check_fast_attention
from itrd_nlp.models.load_report import without_load_report
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.tokenizing import check_same_vocabulary as check_same_vocabulary
from itrd_nlp.models.tokenizing import check_vocabulary as check_vocabulary
from itrd_nlp.models.tokenizing import fit_tokenizer as fit_tokenizer
from itrd_nlp.models.tokenizing import load_tokenizer as load_tokenizer

logger = logging.getLogger(__name__)

MOST_LAYERS = 10_000
NEW_HEAD = ("encoder", "student")
"""Roles of models that are trained, so that their checkpoints may lack the weights of the head."""


def load_model(
    name: str,
    *,
    role: str,
    args: LoadingArguments,
    head: type[Any],
    dropout: float | None = None,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    **more: Any,
) -> PreTrainedModel:
    """Load an encoder with a head, in fp32.

    All weights of the model come from the checkpoint. An ``encoder`` or ``student`` alone may lack those of the head
    and of the pooler, which are then drawn at random.

    Args:
        name: folder of a model, or its id on the Hub.
        role: role of the model, for error messages and for what its checkpoint may lack: ``encoder``, ``student``,
            ``teacher`` or ``model``.
        args: attention implementation and revision.
        head: a class of transformers such as ``AutoModelForTokenClassification``.
        dropout: new dropout of hidden states and attention, from 0 to 1. Default: the dropout of the configuration.
        labels: names of the classes of a new head. Default: the labels of the configuration.
        problem_type: likewise of a new head, such as ``regression``. Default: that of the configuration.
        **more: for ``from_pretrained``, such as ``quantization_config``.

    Raises:
        UserError: the model does not exist or is damaged, its architecture has no such head, its weights are not those
            that the configuration describes, or a library that reads them is missing.
    """
    check_model_folder(name, role)
    try:
        config = AutoConfig.from_pretrained(name, revision=args.model_revision)
        _check_config(config)
        if dropout is not None:
            set_dropout(config, dropout)
        if labels is not None:
            set_labels(config, labels)
        if problem_type is not None:
            config.problem_type = problem_type
        with without_load_report():
            model, info = head.from_pretrained(
                name,
                config=config,
                revision=args.model_revision,
                attn_implementation=args.attn_implementation,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # `_check_weights` refuses them with a sentence
                **more,
            )
    except MemoryError:
        raise
    except Exception as error:  # a damaged file of a model raises nearly everything
        raise UserError(f"{role} {name} cannot be loaded: {first_line(error)}") from error
    check_fast_attention(model)
    _check_weights(model, info, f"{role} {name}")
    _check_head(model, role, name, head, info["missing_keys"])
    return cast(PreTrainedModel, model)


def saved_class(config: Any) -> str:
    """The name of the class whose weights lie beside a configuration; "" where it names none."""
    names = config.architectures
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _check_config(config: Any) -> None:
    """Refuse layers that transformers would make one by one for hours, and weights that need a missing library.

    Raises:
        ValueError: names the field, or the extra to install.
    """
    layers = getattr(config, "num_hidden_layers", None)
    if isinstance(layers, int) and layers > MOST_LAYERS:
        raise ValueError(
            f"num_hidden_layers is {layers} in config.json, but at most {MOST_LAYERS} are taken"
        )
    about = getattr(config, "quantization_config", None)
    by_torchao = isinstance(about, dict) and about.get("quant_method") == "torchao"
    if by_torchao and importlib.util.find_spec("torchao") is None:
        raise ValueError(
            "torchao has quantised its weights and is not installed; pip install itrd_nlp[quantise]"
        )


def _check_weights(model: PreTrainedModel, info: Any, who: str) -> None:
    """Refuse weights that are not those of the model.

    transformers draws the weights that are missing or have another shape, and leaves out those that it does not expect.

    Args:
        model: the loaded model.
        info: the ``loading_info`` of transformers.
        who: role and name of the model.
    """
    body = _Body(model)
    missing = [key for key in info["missing_keys"] if key in body]
    if missing:
        raise UserError(
            f"{who} has a config.json of the type {model.config.model_type}, but its checkpoint lacks "
            f"{_some(missing)}; the two do not belong together."
        )
    for key, found, needed in sorted(info["mismatched_keys"]):
        raise UserError(
            f"{who} cannot be loaded: {key} has the shape {tuple(found)} in the checkpoint, but the model needs "
            f"{tuple(needed)}."
        )
    left_out = [key for key in info["unexpected_keys"] if key in body]
    if left_out:
        raise UserError(
            f"{who} has a checkpoint with {_some(left_out)}, which the model of its config.json does not have; the two "
            "do not belong together."
        )


class _Body:
    """The names of the weights below the head, with and without the prefix of the base model.

    A pooler counts as a part of the head: some heads read it, and others drop it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.prefix = f"{model.base_model_prefix}."
        self.parts = {name for name, _ in model.base_model.named_children()}

    def __contains__(self, key: str) -> bool:
        part = key.removeprefix(self.prefix).partition(".")[0]
        return part != "pooler" and (key.startswith(self.prefix) or part in self.parts)


def load_model_and_tokenizer(
    name: str, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer, and refuse two that do not belong together.

    Args:
        name: folder of a model, or its id on the Hub.
        **options: those of `load_model`.

    Raises:
        UserError: see `load_model`, `load_tokenizer` and `fit_tokenizer`.
    """
    model = load_model(name, **options)
    tokenizer = load_tokenizer(name, options["args"])
    fit_tokenizer(model, tokenizer, name)
    return model, tokenizer


def check_model_folder(name: str, role: str) -> None:
    """Refuse a local path without a model, because transformers would look for its name on the Hub.

    A checkpoint of a training is held against its seal.

    Args:
        name: folder of a model, or its id on the Hub.
        role: role of the model in error messages.

    Raises:
        UserError: the path exists and is no model folder, the name looks like a path and does not exist, or the
            checkpoint is damaged.
    """
    path = Path(name)
    if os.path.lexists(name) and not path.is_dir():  # a pipe or a broken link, too
        raise UserError(
            f"{role} {name} is no folder, but must be a model folder or a model id of the Hub."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(f"{role} {name} is a folder without config.json, so it holds no model.")
    reason = damage(path) if (path / MANIFEST_NAME).is_file() else None
    if reason is not None:
        raise UserError(f"{role} {name} is a damaged checkpoint: {reason}.")
    if path.exists():
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"{role} {name} does not exist.")
    # `runs/my_studnet`: without a network the Hub would be asked again and again before this is refused.
    if "/" in name and path.parent.exists():
        raise UserError(
            f"{role} {name} does not exist, but {path.parent} does; to take a model of this name from the "
            "Hub, start in another folder."
        )


def set_dropout(config: object, dropout: float) -> None:
    """Set every dropout in a configuration of any architecture: of hidden states, attention, embeddings and heads.

    Architectures have about thirty names for it, such as ``hidden_dropout_prob``, ``attn_pdrop`` and ``qa_dropout``.
    All have "drop" in the name and hold a number. Whole layers and paths that are dropped (``layerdrop``,
    ``drop_path_rate``) are another thing; they are switched off at 0 and left alone otherwise. The stages of CvT have a
    list of numbers, and MPT and Gemma 3 have parts with a configuration of their own.

    Args:
        config: a configuration of transformers. It is changed in place.
        dropout: the dropout, from 0 to 1.

    Raises:
        UserError: a field takes whole numbers alone, as the one of MPT for its attention.
    """
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            set_dropout(value, dropout)
            continue
        of_values = not any(part in name for part in ("layerdrop", "layer_drop", "drop_path"))
        if "drop" not in name or not (of_values or dropout == 0):
            continue
        if _is_number(value):
            _set_number(config, name, dropout)
        elif isinstance(value, list | tuple) and all(map(_is_number, value)):
            setattr(config, name, type(value)(dropout for _ in value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _set_number(config: object, name: str, value: float) -> None:
    try:
        setattr(config, name, value)
    except StrictDataclassFieldValidationError as error:
        if int(value) != value:
            raise UserError(
                f"dropout is {value}, but {name} of {type(config).__name__} takes whole numbers alone; set it to 0."
            ) from error
        setattr(config, name, int(value))


def _check_head(
    model: PreTrainedModel, role: str, name: str, head: type[Any], missing: Iterable[str]
) -> None:
    """Refuse a checkpoint without the head, and one with another head whose weights have the same names.

    A model that is trained may lack them.
    """
    if role in NEW_HEAD:
        if role == "student" and missing:
            text = "student %s: its checkpoint lacks %s. What it lacks begins at random."
            logger.warning(text, name, _some(missing))
        return
    who = f"{role} {name}"
    saved = saved_class(model.config)
    needed = _head_of(type(model).__name__)
    if not needed:  # an encoder without a head has all that it needs
        return
    if _head_of(saved) not in ("", needed):
        raise UserError(
            f"{who} is no fine-tuned model for {needed}: it is a {saved}; itrd-nlp fine-tune makes one."
        )
    if missing:
        kind = head.__name__.removeprefix("AutoModelFor")
        other = (
            ", and --task encoder distils an encoder without a head" if kind == "MaskedLM" else ""
        )
        raise UserError(
            f"{who} is no fine-tuned model for {kind}: its checkpoint lacks {_some(missing)}; itrd-nlp fine-tune makes "
            f"one{other}."
        )


def _head_of(class_name: str) -> str:
    """The head in the name of a class, such as MaskedLM in RoFormerForMaskedLM; "" without one, as in RoFormerModel."""
    found = re.search(r"For(?=[A-Z])(.*)", class_name)
    return found[1] if found else ""


def set_labels(config: Any, labels: Sequence[str]) -> None:
    """Set the names of the classes in a configuration, in the order of their ids.

    Args:
        config: a configuration of transformers. It is changed in place.
        labels: the names.
    """
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}


def label_names(config: Any) -> list[str]:
    """Return the names of the classes in a configuration, in the order of their ids."""
    return [str(name) for _, name in sorted((config.id2label or {}).items())]


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first} and {len(others)} more" if others else first
