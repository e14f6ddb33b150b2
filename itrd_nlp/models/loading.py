"""Load models and tokenizers. A model that cannot work is refused with one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models.fast_attention import check_fast_attention

# What a model with a head is called, and the script that makes one; `scripts/fine_tune.py` makes all others.
_ORIGINS = {
    "AutoModelForQuestionAnswering": ("question-answering model", "train_teacher.py"),
    "AutoModelForSequenceClassification": (
        "model for SequenceClassification",
        "train_classifier.py",
    ),
    "AutoModelForTokenClassification": ("model for TokenClassification", "train_classifier.py"),
}


@dataclass
class LoadingArguments:
    """Options for loading models."""

    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention: eager, sdpa, flash_attention_2 or fast. fast is sdpa, except in bf16 training on a "
            "CPU, where it is faster than sdpa and eager. Default: transformers chooses.",
        },
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of models that come from the Hub."}
    )


def load_model(
    name: str,
    *,
    role: str,
    args: LoadingArguments,
    dropout: float | None = None,
    head: type[Any] = AutoModelForQuestionAnswering,
    labels: Sequence[str] | None = None,
) -> PreTrainedModel:
    """Load an encoder with a head, in fp32.

    Args:
        name: folder of a model, or its id on the Hub.
        role: role of the model in error messages. The checkpoint of a ``teacher`` or ``model`` must have a trained
            head. An ``encoder`` or ``student`` may have none.
        args: attention implementation and revision.
        dropout: new dropout of hidden states and attention, from 0 to 1. Default: the dropout of the configuration.
        head: a class of transformers such as ``AutoModelForTokenClassification``. Default: a span head.
        labels: names of the classes of a new head. Default: the labels of the configuration.

    Returns:
        The model.

    Raises:
        UserError: the model does not exist, the architecture has no such head, or the checkpoint lacks a trained head
            that the role needs or has another one.
    """
    check_model_folder(name, role)
    try:
        config = AutoConfig.from_pretrained(name, revision=args.model_revision)
        if dropout is not None:
            set_dropout(config, dropout)
        if labels is not None:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: i for i, label in enumerate(labels)}
        model: PreTrainedModel
        model, info = head.from_pretrained(
            name,
            config=config,
            revision=args.model_revision,
            attn_implementation=args.attn_implementation,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{role} {name} cannot be loaded: {_first_line(error)}") from error
    check_fast_attention(model)
    if role in ("teacher", "model"):
        _check_trained_head(model, f"{role} {name}", head, sorted(info["missing_keys"]))
    return model


def load_tokenizer(name: str, args: LoadingArguments) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Args:
        name: folder of a model, or its id on the Hub.
        args: the revision. The attention implementation has no effect.

    Returns:
        The tokenizer.

    Raises:
        UserError: the tokenizer cannot be loaded.
    """
    try:
        return AutoTokenizer.from_pretrained(name, revision=args.model_revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the tokenizer of {name} cannot be loaded: {_first_line(error)}"
        ) from error


def check_same_vocabulary(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, *, role: str = "student"
) -> None:
    """Refuse two tokenizers that give the same token different ids.

    Args:
        student: tokenizer of the student, or of the model that ``role`` names.
        teacher: tokenizer of the teacher.
        role: name of the first model in the error message. Default: ``"student"``.

    Raises:
        UserError: the vocabularies differ. The message names the first token with different ids.
    """
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours == theirs:
        return
    token = min(t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t))
    raise UserError(
        f"the vocabularies of {role} ({len(ours)} tokens) and teacher ({len(theirs)}) differ, for example in "
        f"{token!r} (id {ours.get(token)} and {theirs.get(token)}); both must read the same token ids."
    )


def check_model_folder(name: str, role: str) -> None:
    """Refuse a local path without a model, because transformers would look for its name on the Hub.

    Args:
        name: folder of a model, or its id on the Hub.
        role: role of the model in error messages.

    Raises:
        UserError: the path exists and is no model folder, or the name looks like a path and does not exist.
    """
    path = Path(name)
    if path.is_file():
        raise UserError(
            f"{role} {name} is a file, but must be a model folder or a model id of the Hub."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise UserError(f"{role} {name} is a folder without config.json, so it holds no model.")
    if not path.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise UserError(f"{role} {name} does not exist.")


def set_dropout(config: object, dropout: float) -> None:
    """Set the dropout of hidden states and of attention in a configuration of any architecture.

    Args:
        config: a configuration of transformers. It is changed in place.
        dropout: the dropout, from 0 to 1.
    """
    names = {
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "dropout",
        "attention_dropout",
        "embedding_dropout",
        "mlp_dropout",
    }
    for name in names & set(vars(config)):
        setattr(config, name, dropout)


def _check_trained_head(
    model: PreTrainedModel, name: str, head: type[Any], missing: Sequence[str]
) -> None:
    """Refuse a checkpoint without the head, and one with another head whose weights have the same names."""
    what, script = _ORIGINS.get(
        head.__name__, (f"model for {head.__name__.removeprefix('AutoModelFor')}", "fine_tune.py")
    )
    saved = (model.config.architectures or [""])[0]
    reason = None
    if "For" in saved and saved.partition("For")[2] != type(model).__name__.partition("For")[2]:
        reason = f"it is a {saved}"
    elif missing:
        reason = f"its checkpoint lacks {missing[0]}{' and others' if len(missing) > 1 else ''}"
    if reason is not None:
        raise UserError(
            f"{name} is no fine-tuned {what}: {reason}; make one with scripts/{script}."
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."
