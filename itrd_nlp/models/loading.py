"""Load models and tokenizers, refusing what cannot work with a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass
class LoadingArguments:
    """How models are loaded."""

    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "eager, sdpa, flash_attention_2 or fast; default: transformers' choice. fast is sdpa, but for bf16 "
            "training on a CPU, where it is faster than all of them.",
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
    head: type = AutoModelForQuestionAnswering,
    labels: Sequence[str] | None = None,
) -> PreTrainedModel:
    """Load an encoder with a head, in fp32.

    Args:
        name: folder or model id.
        role: what it is called in error messages and for what it is used: a ``teacher`` or ``model`` must bring a
            trained head, an ``encoder`` or ``student`` may come without one.
        args: attention implementation and revision.
        dropout: replaces the dropout of hidden states and attention; None keeps the configuration's.
        head: a class of transformers such as ``AutoModelForTokenClassification``. Default: a span head.
        labels: names of the classes of a new head; None keeps the configuration's.

    Raises:
        UserError: there is no such model, it is no encoder with this head, or its head must be trained and is not.
    """
    check_model_folder(name, role)
    try:
        config = AutoConfig.from_pretrained(name, revision=args.model_revision)
        if dropout is not None:
            set_dropout(config, dropout)
        if labels is not None:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: i for i, label in enumerate(labels)}
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
    missing = sorted(info["missing_keys"])
    if role in ("teacher", "model") and missing:
        spans = head is AutoModelForQuestionAnswering
        what, script = (
            ("question-answering model", "train_teacher.py")
            if spans
            else (f"model for {head.__name__.removeprefix('AutoModelFor')}", "train_classifier.py")
        )
        raise UserError(
            f"{role} {name} is no fine-tuned {what}: its checkpoint lacks {missing[0]}"
            f"{' and others' if len(missing) > 1 else ''}; make one with scripts/{script}."
        )
    return model


def load_tokenizer(name: str, args: LoadingArguments) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Raises:
        UserError: there is none.
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
    """Refuse two tokenizers that give the same text different ids.

    Args:
        student: the tokenizer of a student, or of what `role` says.
        teacher: that of the teacher.
        role: what the sentence calls the first one.

    Raises:
        UserError: names the first token on which they differ.
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
    """Refuse a local folder that holds no model before transformers takes its name for one of the Hub.

    Raises:
        UserError: the path exists and is no model folder, or looks like a path and does not exist.
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
    """Set the dropout of hidden states and of attention in a configuration, whatever its architecture calls them."""
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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."
