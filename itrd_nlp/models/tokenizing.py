"""Tokenizers: load one, hold it against a model or another one, and let it read lists of words as it reads texts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError, first_line
from itrd_nlp.models.options import LoadingArguments

logger = logging.getLogger(__name__)

TOKENIZER_PATTERNS = (
    *("tokenizer*", "vocab.*", "entity_vocab.json", "merges.txt", "bpe.codes", "*.model", "*.spm"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template*"),
)
"""Patterns of the names of the files that a tokenizer of transformers writes."""


def load_tokenizer(name: str, args: LoadingArguments) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Args:
        name: folder of a model, or its id on the Hub.
        args: the revision. The attention implementation has no effect.

    Returns:
        The tokenizer.

    Raises:
        UserError: the tokenizer cannot be loaded, or the folder holds none.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, revision=args.model_revision
        )
    except MemoryError:
        raise
    except Exception as error:  # a damaged file of a tokenizer raises nearly everything
        raise UserError(f"the tokenizer of {name} cannot be loaded: {first_line(error)}") from error
    _check_options(tokenizer, name)
    folder, files = Path(name), dict(tokenizer.vocab_files_names)
    if folder.is_dir() and files:
        # Without its files transformers makes a tokenizer that knows the special tokens alone.
        whole = files.pop("tokenizer_file", "tokenizer.json")
        if not (folder / whole).is_file() and not (
            files and all((folder / file).is_file() for file in files.values())
        ):
            raise UserError(
                f"{name} has no tokenizer, such as {whole}; save it by save_pretrained."
            )
    return tokenizer


def _check_options(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer whose options transformers reads, but can neither use nor save.

    Raises:
        UserError: names the option.
    """
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float):
        raise UserError(
            f"the tokenizer of {name} cannot be loaded: its model_max_length is {str(longest)[:60]!r}, but must be a "
            "number."
        )
    try:
        json.dumps(tokenizer.init_kwargs, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the tokenizer of {name} cannot be loaded: an option has half of a character, such as \\ud800."
        ) from None


def fit_tokenizer(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer that is not the model's, and tell the model which token pads.

    A decoder of transformers that labels a text looks for its last token, and finds none in a batch where its
    configuration names no padding. transformers itself tells it so when a training begins.

    Args:
        model: a model of transformers, or an exported one. Its configuration gets the ``pad_token_id`` of the tokenizer
            if it has none.
        tokenizer: the tokenizer.
        name: folder or id of both.

    Raises:
        UserError: see `check_vocabulary`.
    """
    rows = vocabulary_size(model.config)
    if rows is not None:
        check_vocabulary(tokenizer, rows, name)
    config = model.config.get_text_config()
    if getattr(config, "pad_token_id", None) is None and tokenizer.pad_token_id is not None:
        config.pad_token_id = tokenizer.pad_token_id


def vocabulary_size(config: PreTrainedConfig) -> int | None:
    """The number of token ids that a model knows. It is None for CANINE, which has no table of its characters.

    Args:
        config: of the model. Where it has several parts, such as one for images, the part that reads text counts.
    """
    size: int | None = getattr(config.get_text_config(), "vocab_size", None)
    return size


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Refuse a tokenizer that is not the model's.

    Many models have more embeddings than tokens, so that their number is a round one, but none has twice as many.

    Args:
        tokenizer: the tokenizer.
        rows: number of embeddings of the model.
        name: folder or id of both.

    Raises:
        UserError: the tokenizer makes an id without an embedding, or less than half of the embeddings have a token.
    """
    vocabulary = tokenizer.get_vocab()
    largest = max(vocabulary.values(), default=-1)
    if largest >= rows or 2 * len(vocabulary) < rows:
        raise UserError(
            f"the tokenizer in {name} has {len(vocabulary)} tokens with ids up to {largest} and the model {rows} "
            "embeddings, so it is not the model's."
        )


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


# ---- lists of words ----


def check_words(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that does not know which of its tokens belong to which word.

    Raises:
        UserError: it is a slow one.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} is no fast tokenizer, which labels of tokens need: it does not know which "
            "word a part comes from."
        )


def reads_words_apart(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the words of a list become the tokens that they are in a text.

    The byte-level tokenizers of GPT-2 and its kin hold the space in front of a word as a part of it, and a word of a
    list has no space.

    Args:
        tokenizer: a fast one.
    """
    words, text = (
        tokenizer(row, is_split_into_words=words, add_special_tokens=False)["input_ids"]
        for row, words in ((["a", "a"], True), ("a a", False))
    )
    return bool(words == text)


def reads_marks_alone(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a mark between two letters is read as it is where the three are words of a list.

    BERT's tokenizer cuts a text at its marks. A tokenizer of SentencePiece reads a space in front of each word of a
    list.

    Args:
        tokenizer: a fast one.
    """
    words, text = (
        tokenizer(row, is_split_into_words=words, add_special_tokens=False)["input_ids"]
        for row, words in ((["a", "-", "a"], True), ("a-a", False))
    )
    return bool(words == text)


def with_words_apart(
    tokenizer: PreTrainedTokenizerBase, name: str, args: LoadingArguments
) -> PreTrainedTokenizerBase:
    """A tokenizer for a new head over lists of words, which puts a space in front of each of them and of a text.

    A tokenizer that reads words as it reads texts stays as it is. Of the others, those that take ``add_prefix_space``
    are loaded again with it. Where that does nothing, as in the files of ModernBERT and Llama 3, the first step of a
    byte-level tokenizer is changed in place. All of it is saved with the tokenizer, so that later readers agree.

    Args:
        tokenizer: of the model that gets the head.
        name: folder or id of the model.
        args: the revision.

    Returns:
        The tokenizer, unchanged where neither way helps; `warn_of_joined_words` says so then.
    """
    if not tokenizer.is_fast or reads_words_apart(tokenizer):
        return tokenizer
    again: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        name, revision=args.model_revision, add_prefix_space=True
    )
    if not reads_words_apart(again):
        _put_spaces(again.backend_tokenizer)
    return again if reads_words_apart(again) else tokenizer


def _put_spaces(backend: Tokenizer) -> None:
    """Let a byte-level tokenizer put a space in front of each word and each text that has none."""
    spec = json.loads(backend.to_str())
    first, last = spec["pre_tokenizer"], spec["post_processor"]
    if _steps(first)[-1:] != ["ByteLevel"]:
        return
    if first["type"] == "ByteLevel":
        first["add_prefix_space"] = True
    else:  # with the option, the last step would put a space into the middle of words that an earlier one has cut
        space = {"replacement": " ", "prepend_scheme": "always", "split": False}
        first["pretokenizers"].insert(0, {"type": "Metaspace", **space})
    for part in [last, *last.get("processors", [])] if last else []:
        if "add_prefix_space" in part:  # the first character of a text is no space that was in it
            part["add_prefix_space"] = True
    changed = Tokenizer.from_str(json.dumps(spec))
    backend.pre_tokenizer = changed.pre_tokenizer
    if last:
        backend.post_processor = changed.post_processor


def _steps(spec: dict[str, Any] | None) -> list[str]:
    """The types of the steps of a pre-tokenizer."""
    if spec is None:
        return []
    return [part["type"] for part in spec.get("pretokenizers", [spec])]


def warn_of_joined_words(tokenizer: PreTrainedTokenizerBase) -> None:
    """Say it where a tokenizer reads the words of a list without the spaces between them, as a model was trained.

    Raises:
        UserError: see `check_words`.
    """
    check_words(tokenizer)
    if not reads_words_apart(tokenizer):
        logger.warning(
            "The tokenizer of %s reads the words of a list without the spaces between them, so that they are other "
            "tokens than in a text. It stays so, because the model was trained with it; a fine-tuning puts "
            "the spaces there where it can.",
            tokenizer.name_or_path or "the model",
        )
