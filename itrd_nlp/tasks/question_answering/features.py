"""Turn questions into windows of tokens that a BERT-like encoder can take.

A context that is longer than a window is cut into several, which overlap. A window is
``[CLS] question [SEP] part of the context [SEP]``, with the special tokens of the tokenizer. Two neighbouring windows
share `doc_stride` tokens of the context. In the first BERT code that name meant the step between two windows instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import datasets
import numpy as np
from datasets import Dataset, Features, Value
from transformers import BatchEncoding, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.arguments import DOC_STRIDE, MAX_LENGTH, check_window_size
from itrd_nlp.tasks.question_answering.cache import in_cache
from itrd_nlp.tasks.question_answering.characters import whole_characters

# Part of the key of the cache: raise it whenever the functions below compute something else.
_CACHE_VERSION = 3
_OF_TOKENS = ("input_ids", "offset_mapping")


def training_features(
    examples: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = MAX_LENGTH,
    doc_stride: int = DOC_STRIDE,
    num_proc: int | None = None,
) -> Dataset:
    """Cut questions into windows to train on.

    Each question and each different context is tokenised once, then cut.

    Args:
        examples: rows as `read_squad` returns them. The first answer of a question is the target.
        tokenizer: a fast tokenizer that puts the question first and pads on the right.
        max_length: most tokens in a window, special tokens included.
        doc_stride: context tokens that two neighbouring windows share.
        num_proc: processes to use. `None` is one process with the threads of the tokenizer, which
            takes some 15 seconds for all of SQuAD.

    Returns:
        One row per window, unpadded: `input_ids`, `token_type_ids` (if the tokenizer makes them),
        `start_positions` and `end_positions` (the first and the last token of the answer, both the
        index of the [CLS] token if the answer is not entirely in the window) and `length`, in
        tokens. The result is cached on disk, keyed by the examples, the tokenizer and the
        arguments.

    Raises:
        UserError: the tokenizer or an argument does not fit, or a question is too long.

    Example:
        >>> features = training_features(read_squad(...), tokenizer)  # doctest: +SKIP
    """
    return _cached_windows(examples, tokenizer, max_length, doc_stride, num_proc, characters=False)


def evaluation_features(
    examples: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = MAX_LENGTH,
    doc_stride: int = DOC_STRIDE,
    num_proc: int | None = None,
    skip_long: bool = False,
) -> Dataset:
    """Cut questions into windows to answer, with what it takes to find the text of a span.

    Arguments and errors are those of `training_features`, but the questions may come without a column `answers`, and
    with `skip_long` a question that is too long has no window and is no error.

    Returns:
        The columns of `training_features`, `example_id`, `char_start` and `char_end`. The last two are for each token
        its characters in the context as `whole_characters` says, `char_end` exclusive, and -1 where a token is not of
        the context. There are no positions if there are no answers: without labels a trainer has no loss. The longest
        window comes first, which saves padding.
    """
    features = _cached_windows(
        examples,
        tokenizer,
        max_length,
        doc_stride,
        num_proc,
        characters=True,
        skip_long=skip_long,
    )
    order = np.argsort(-np.array(features["length"][:]), kind="stable")
    return features.select(order, keep_in_memory=True)


class WindowLayout(NamedTuple):
    """The special tokens around question and context, and the token types of all parts."""

    prefix: np.ndarray
    middle: np.ndarray
    suffix: np.ndarray
    prefix_types: np.ndarray
    middle_types: np.ndarray
    suffix_types: np.ndarray
    question_type: int
    context_type: int
    cls_index: int


class Window(NamedTuple):
    """One window, unpadded.

    Attributes:
        row: the row of its question in the batch.
        ids: `(L,)`, the tokens.
        types: `(L,)`, the token types.
        first: where its part of the context begins.
        char_start: `(C,)`, the first character of each of its C tokens of the context, see `whole_characters`.
        char_end: `(C,)`, the character after the last one.
    """

    row: int
    ids: np.ndarray
    types: np.ndarray
    first: int
    char_start: np.ndarray
    char_end: np.ndarray


def _cached_windows(
    examples: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    doc_stride: int,
    num_proc: int | None,
    *,
    characters: bool,
    skip_long: bool = False,
) -> Dataset:
    check_window_size(max_length, doc_stride)
    layout = window_layout(tokenizer)
    columns: dict[str, Any] = {"input_ids": [Value("int32")], "length": Value("int32")}
    if "token_type_ids" in tokenizer.model_input_names:
        columns["token_type_ids"] = [Value("int8")]
    if "answers" in examples.column_names:
        columns |= {"start_positions": Value("int32"), "end_positions": Value("int32")}
    if characters:
        columns |= {
            "example_id": Value("string"),
            "char_start": [Value("int32")],
            "char_end": [Value("int32")],
        }
    # Calling a tokenizer changes its truncation and padding, and with it the hash that map would
    # compute, so that a second run would miss the cache. `window_layout` has switched both off:
    # what is left of the tokenizer decides the result.
    backend = tokenizer.backend_tokenizer.to_str()
    key = [examples._fingerprint, backend, sorted(columns), max_length, doc_stride, _CACHE_VERSION]
    key += ["skip_long"] if skip_long else []
    fingerprint = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    made = partial(
        examples.with_format(None).map,
        _batch_of_windows,
        fn_kwargs={
            "tokenizer": tokenizer,
            "layout": layout,
            "max_length": max_length,
            "doc_stride": doc_stride,
            "columns": list(columns),
            "skip_long": skip_long,
        },
        batched=True,
        remove_columns=examples.column_names,
        features=Features(columns),
        num_proc=num_proc,
        new_fingerprint=fingerprint,
        desc="Tokenising",
    )
    return in_cache(made, fingerprint) if datasets.is_caching_enabled() else made()


def window_layout(tokenizer: PreTrainedTokenizerBase) -> WindowLayout:
    """Read the layout off an encoded pair, so that it holds for BERT, RoBERTa, MPNet and others.

    Raises:
        UserError: the tokenizer is a slow one, pads on the left or has no CLS token.
    """
    name = type(tokenizer).__name__
    if not tokenizer.is_fast:
        raise UserError(
            f"The tokenizer {name} is a slow one, but a fast one is needed, which knows the"
            " characters of its tokens."
        )
    if tokenizer.padding_side != "right":
        raise UserError(
            f"The tokenizer {name} has padding_side={tokenizer.padding_side!r},"
            " but it must be 'right'."
        )
    encoding = tokenizer("a", "a", truncation=False, padding=False).encodings[0]
    part = np.array([-1 if i is None else i for i in encoding.sequence_ids])
    ids, types = np.array(encoding.ids, dtype=np.int32), np.array(encoding.type_ids, dtype=np.int8)
    question, context = np.flatnonzero(part == 0), np.flatnonzero(part == 1)
    prefix = slice(0, question[0])
    middle = slice(question[-1] + 1, context[0])
    suffix = slice(context[-1] + 1, None)
    cls_index = np.flatnonzero(ids[prefix] == tokenizer.cls_token_id)
    if not len(cls_index):
        raise UserError(
            f"The tokenizer {name} puts no CLS token before the question, but one is needed to"
            " mark windows without the answer."
        )
    return WindowLayout(
        prefix=ids[prefix],
        middle=ids[middle],
        suffix=ids[suffix],
        prefix_types=types[prefix],
        middle_types=types[middle],
        suffix_types=types[suffix],
        question_type=int(types[question[0]]),
        context_type=int(types[context[0]]),
        cls_index=int(cls_index[0]),
    )


def _batch_of_windows(
    batch: dict[str, list[Any]],
    tokenizer: PreTrainedTokenizerBase,
    layout: WindowLayout,
    max_length: int,
    doc_stride: int,
    columns: list[str],
    skip_long: bool,
) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = {name: [] for name in columns}
    windows = cut_windows(batch, tokenizer, layout, max_length, doc_stride, skip_long=skip_long)
    for window in windows:
        result["input_ids"].append(window.ids)
        result["length"].append(len(window.ids))
        if "token_type_ids" in columns:
            result["token_type_ids"].append(window.types)
        if "start_positions" in columns:
            first, last = _answer_tokens(window, batch["answers"][window.row], layout.cls_index)
            result["start_positions"].append(first)
            result["end_positions"].append(last)
        if "example_id" in columns:
            result["example_id"].append(batch["id"][window.row])
            for name in ("char_start", "char_end"):
                characters = getattr(window, name)
                spread = np.full(len(window.ids), -1, dtype=np.int32)
                spread[window.first : window.first + len(characters)] = characters
                result[name].append(spread)
    return result


def cut_windows(
    batch: dict[str, list[Any]],
    tokenizer: PreTrainedTokenizerBase,
    layout: WindowLayout,
    max_length: int,
    doc_stride: int,
    *,
    skip_long: bool = False,
) -> Iterator[Window]:
    """Cut a batch of questions into windows.

    Args:
        batch: the lists `id`, `question` and `context`. Each different context is tokenised once.
        tokenizer: a fast tokenizer.
        layout: its `window_layout`.
        max_length: most tokens in a window.
        doc_stride: context tokens that two neighbouring windows share.
        skip_long: make no window of a question that is too long.

    Yields:
        The windows of each question from the begin of its context to the end, in the order of the
        batch. A context without tokens has one window.

    Raises:
        UserError: a question is too long and must not be skipped; the message names its id.
    """
    place = {context: i for i, context in enumerate(dict.fromkeys(batch["context"]))}
    encoded = _tokenized(tokenizer, list(place))
    contexts = [
        (np.array(ids, np.int32), whole_characters(text, np.array(pairs, np.int32).reshape(-1, 2)))
        for text, ids, pairs in zip(place, *(encoded[k] for k in _OF_TOKENS), strict=True)
    ]
    questions = _tokenized(tokenizer, batch["question"])["input_ids"]
    for row, question in enumerate(questions):
        ids, offsets = contexts[place[batch["context"][row]]]
        head, head_types = _head(question, layout)
        room = max_length - len(head) - len(layout.suffix)
        if room < 1 or (len(ids) > room and room <= doc_stride):
            if skip_long:
                continue
            needed = "" if room < 1 else f", and doc_stride={doc_stride} must be smaller than that"
            raise UserError(
                f"question {batch['id'][row]}: its {len(question)} tokens leave room for"
                f" {max(room, 0)} tokens of the context in a window of max_length={max_length}"
                f"{needed}."
            )
        for begin, end in _overlapping(len(ids), room, doc_stride):
            context_types = np.full(end - begin, layout.context_type, dtype=np.int8)
            yield Window(
                row=row,
                ids=np.concatenate((head, ids[begin:end], layout.suffix)),
                types=np.concatenate((head_types, context_types, layout.suffix_types)),
                first=len(head),
                char_start=offsets[begin:end, 0],
                char_end=offsets[begin:end, 1],
            )


def check_room(
    row: dict[str, str],
    tokenizer: PreTrainedTokenizerBase,
    layout: WindowLayout,
    max_length: int,
    doc_stride: int,
) -> None:
    """Refuse a question that `cut_windows` would refuse. It reads the context only where the context decides that.

    Args:
        row: `id`, `question` and `context`.
        tokenizer: as for `cut_windows`, as are the following.
        layout: the layout of the windows.
        max_length: most tokens in a window.
        doc_stride: context tokens that two neighbouring windows share.

    Raises:
        UserError: the question is too long.
    """
    head, _ = _head(_tokenized(tokenizer, [row["question"]])["input_ids"][0], layout)
    if max_length - len(head) - len(layout.suffix) <= doc_stride:
        batch = {name: [text] for name, text in row.items()}
        next(cut_windows(batch, tokenizer, layout, max_length, doc_stride))


def _tokenized(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> BatchEncoding:
    """Tokens and their characters, whatever the tokenizer takes for the longest input."""
    encoded: BatchEncoding = tokenizer(
        texts,
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return encoded


def _head(question: list[int], layout: WindowLayout) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and token types of a window up to the context."""
    ids = np.concatenate((layout.prefix, np.array(question, dtype=np.int32), layout.middle))
    question_types = np.full(len(question), layout.question_type, dtype=np.int8)
    return ids, np.concatenate((layout.prefix_types, question_types, layout.middle_types))


def _overlapping(tokens: int, room: int, doc_stride: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the parts of a context, each of `room` tokens but for the last one."""
    begin, end = 0, min(room, tokens)
    yield begin, end
    while end < tokens:
        begin = end - doc_stride
        end = min(begin + room, tokens)
        yield begin, end


def _answer_tokens(window: Window, answers: dict[str, list[Any]], absent: int) -> tuple[int, int]:
    """First and last token of the first answer; `absent` twice if it is not all in the window."""
    if not answers["text"] or not len(window.char_start):
        return absent, absent
    # Tokens have no white space at their ends, see `whole_characters`, so an answer is compared without its own.
    text = answers["text"][0]
    start = answers["answer_start"][0] + len(text) - len(text.lstrip())
    end = start + len(text.strip())
    if start < window.char_start[0] or end > window.char_end[-1]:
        return absent, absent
    # The tokens that overlap the answer: they end after its start and begin before its end.
    first = int(np.searchsorted(window.char_end, start, side="right"))
    last = int(np.searchsorted(window.char_start, end, side="left")) - 1
    if first > last:
        return absent, absent
    return window.first + first, window.first + last
