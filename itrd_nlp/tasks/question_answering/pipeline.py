"""Answer questions about texts with a distilled student, in one line.

transformers 5 has no pipeline for extractive question answering any more. This one is built on its
`Pipeline`, and finds the answers that the evaluation finds, because it cuts windows and decodes
spans with the same code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForQuestionAnswering, PreTrainedTokenizerBase
from transformers.pipelines.base import ChunkPipeline

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import SPAN_LOGITS
from itrd_nlp.models.lengths import longest_input
from itrd_nlp.models.options import LoadingArguments, Running
from itrd_nlp.tasks.by_length import answer_by_length
from itrd_nlp.tasks.network import answering_network
from itrd_nlp.tasks.question_answering.arguments import (
    MAX_ANSWER_LENGTH,
    NULL_THRESHOLD,
    DataArguments,
)
from itrd_nlp.tasks.question_answering.asked import check_count, checked_row, pairs, shown
from itrd_nlp.tasks.question_answering.decoding import Span, decode_question, stacked
from itrd_nlp.tasks.question_answering.features import (
    Window,
    check_room,
    cut_windows,
    window_layout,
)
from itrd_nlp.tasks.question_answering.no_answer import threshold_of
from itrd_nlp.tasks.question_answering.onnx_model import OnnxQuestionAnsweringModel
from itrd_nlp.tasks.question_answering.window_sizes import WindowSizes
from itrd_nlp.tasks.trained import trained_lengths

Answer = dict[str, Any]
"""`answer`, `score`, `start` and `end`, see `QuestionAnsweringPipeline`."""


class QuestionAnsweringPipeline(ChunkPipeline):
    """Find the answers to questions in their contexts.

    A call takes `question=` and `context=`, two texts or two lists of the same length (or a list of
    questions and one context for all); or, as the only argument, a dict with `question` and
    `context`, a list of such dicts, or any other iterable of them, such as a generator or a data
    set. For one question it returns an answer, for lists a list. For any other iterable it returns
    an iterator. With a `batch_size` of 1 it reads an input when its answer is asked for, and with a
    larger one 16 batches ahead, so that a stream of any length is answered in constant memory.
    Batches hold windows of like length. Other keys of a dict are ignored, but for `id`, by which
    error messages name the question; else they name its number.

    An answer is a dict of

    - `answer`: the text, `context[start:end]`, without white space at its ends, and with whole
      grapheme clusters: what a reader sees as one character is not cut;
    - `score`: its probability among all answers that are possible: the softmax of start logit plus
      end logit over every span of at most `max_answer_len` tokens in all windows of the context. It
      depends neither on `top_k` nor on how the windows are batched, and over all spans it sums to
      1. As with any softmax, how well it matches the share of right answers is a property of the
      model. Where the model cannot see that there is no answer, a high score says only that no other
      span of this context is a better one;
    - `start` and `end`: characters of the context, `end` exclusive.

    With `top_k` above 1 there is a list of answers in the place of each, the best first. A context
    of which the tokenizer makes no token has the only answer "" with score 0.

    Args:
        model: an encoder with a span head; or another module with its `config`, `device` and
            `dtype`, called as one, such as an `OnnxQuestionAnsweringModel`. It is put into
            evaluation mode.
        tokenizer: its fast tokenizer.
        device: where it runs; default: the first accelerator, else the CPU.
        trained: `max_length` and `doc_stride` of the model's training, as `load_pipeline` finds them; default: they
            are not known.
        batch_size: windows that go through the model at once, 1 by default. This and the following
            can be given here and in every call; the call wins.
        top_k: answers per question, 1 by default.
        max_answer_len: most tokens of an answer, 30 by default.
        max_length: most tokens of a window; for the default see `WindowSizes`.
        doc_stride: tokens of a long context that two neighbouring windows share; likewise.
        handle_impossible_answer: let "there is no answer" compete, for models that were trained
            with such questions. Its logit is that of the span ([CLS], [CLS]), the lowest of all
            windows, minus the threshold. If it wins, the answer is "" from 0 to 0. Default: whether a threshold is
            given or stands in the model's `config.json`.
        null_score_diff_threshold: that threshold; default: the model's, else 0.

    Raises:
        UserError: the input or an option cannot be used, or a question leaves no room in a window.

    Example:
        >>> qa = QuestionAnsweringPipeline(model, tokenizer)  # doctest: +SKIP
        >>> qa(question="Where does the Rhine end?", context="The Rhine ends in the North Sea.")
        {'answer': 'the North Sea', 'score': 0.81, 'start': 18, 'end': 31}  # doctest: +SKIP
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        device: str | int | torch.device | None = None,
        batch_size: int = 1,
        trained: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        check_count("batch_size", batch_size)
        self.layout = window_layout(tokenizer)
        self.windows = WindowSizes(longest_input(model), trained)
        self.threshold = threshold_of(model.config)
        parts: dict[str, Any] = {"model": model.eval(), "tokenizer": tokenizer, "device": device}
        super().__init__(
            **parts,
            task="question-answering",
            batch_size=batch_size,
            **options,
        )

    def __repr__(self) -> str:
        name, device = type(self.model).__name__, self.device
        return f"{type(self).__name__}({name}, dtype={self.dtype}, device={device})"

    def __call__(  # type: ignore[override]  # here and below: the base has **kwargs of any kind
        self,
        inputs: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
        *,
        question: str | list[str] | None = None,
        context: str | list[str] | None = None,
        batch_size: int | None = None,
        **options: Any,
    ) -> Any:
        if batch_size is not None:
            check_count("batch_size", batch_size)
        answer: Any = super().__call__  # it has no annotations
        if inputs is None:
            inputs = pairs(question, context)
        elif question is not None or context is not None:
            raise UserError("Give either question and context, or inputs that hold both.")
        if isinstance(inputs, Mapping):
            return answer(checked_row(inputs, 1), batch_size=batch_size, **options)
        if isinstance(inputs, str) or not isinstance(inputs, Iterable):
            raise UserError(
                f"The input is {shown(inputs)}, but must be a dict with question and context, or"
                " several of them."
            )
        size = batch_size or self._batch_size or 1
        rows = (checked_row(row, number) for number, row in enumerate(inputs, start=1))
        if not isinstance(inputs, list | tuple) and size == 1:
            return iter(answer(rows, batch_size=1, **options))

        def usable() -> Iterator[dict[str, str]]:
            for row in rows:
                self.check(row, **options)
                yield row

        def answered(group: list[dict[str, str]]) -> list[Any]:
            self.call_count = 0  # All groups are one call, so transformers must not advise fewer.
            found: list[Any] = answer(group, batch_size=size, **options)
            return found

        if isinstance(inputs, list | tuple):
            checked = list(usable())  # all of them, before the first is answered
            if size == 1:
                return answered(checked) if checked else []
            return list(answer_by_length(checked, _length, answered, size))
        return answer_by_length(usable(), _length, answered, size)

    def check(self, row: Mapping[str, Any], **options: Any) -> None:
        """Refuse an input that a call with these options could not answer, without running the model.

        Args:
            row: one input of a call.
            options: those of the call.

        Raises:
            UserError: the question or the context is no text or empty, or the question leaves no room in a window.
        """
        checked = checked_row(row, 1)
        given = self._preprocess_params | self._sanitize_parameters(**options)[0]
        texts = {name: checked[name] for name in ("id", "question", "context")}
        check_room(texts, _tokenizer_of(self), self.layout, *self.windows.of(**given))

    def _sanitize_parameters(  # type: ignore[override]
        self,
        top_k: int | None = None,
        max_answer_len: int | None = None,
        max_length: int | None = None,
        doc_stride: int | None = None,
        handle_impossible_answer: bool | None = None,
        null_score_diff_threshold: float | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        counts = {"top_k": top_k, "max_answer_len": max_answer_len}
        for name, value in {**counts, "max_length": max_length}.items():
            if value is not None:
                check_count(name, value)
        if doc_stride is not None and (type(doc_stride) is not int or doc_stride < 0):
            raise UserError(f"doc_stride is {doc_stride!r}, but must be an integer of at least 0.")
        self.windows.check(max_length)
        if handle_impossible_answer not in (None, True, False):
            raise UserError(
                f"handle_impossible_answer is {handle_impossible_answer!r}, but must be True or False."
            )
        threshold = null_score_diff_threshold
        number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if threshold is not None and (not number or threshold not in NULL_THRESHOLD):
            raise UserError(
                f"null_score_diff_threshold is {threshold!r}, but must be {NULL_THRESHOLD}."
            )
        preprocess = {"max_length": max_length, "doc_stride": doc_stride}
        postprocess = {
            **counts,
            "handle_impossible_answer": handle_impossible_answer,
            "null_score_diff_threshold": threshold,
        }
        return _given(preprocess), {}, _given(postprocess)

    def preprocess(  # type: ignore[override]
        self,
        row: dict[str, str],
        max_length: int | None = None,
        doc_stride: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the windows of a question as inputs of the model."""
        batch = {name: [row[name]] for name in ("id", "question", "context")}
        sizes = self.windows.of(max_length, doc_stride)
        windows = list(cut_windows(batch, _tokenizer_of(self), self.layout, *sizes))
        for window in windows:
            inputs = {
                "input_ids": torch.from_numpy(window.ids[None].astype(np.int64)),
                "attention_mask": torch.ones((1, len(window.ids)), dtype=torch.int64),
            }
            if "token_type_ids" in _tokenizer_of(self).model_input_names:
                inputs["token_type_ids"] = torch.from_numpy(window.types[None].astype(np.int64))
            yield {
                **inputs,
                "part": _Part(row["context"], window),
                "is_last": window is windows[-1],
            }

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any]
    ) -> dict[str, Any]:
        others = {name: model_inputs.pop(name) for name in ("part", "is_last")}
        output = self.model(**model_inputs)
        # Python and numpy have no bf16.
        logits = {name: output[name].float() for name in SPAN_LOGITS}
        return {**logits, **others}

    def postprocess(  # type: ignore[override]
        self,
        outputs: list[dict[str, Any]],
        top_k: int = 1,
        max_answer_len: int = MAX_ANSWER_LENGTH,
        handle_impossible_answer: bool | None = None,
        null_score_diff_threshold: float | None = None,
    ) -> Answer | list[Answer]:
        """Find the answers in the logits of all windows of a question."""
        windows = [output["part"].window for output in outputs]
        starts = [output["start_logits"][0].numpy() for output in outputs]
        ends = [output["end_logits"][0].numpy() for output in outputs]
        null_logit = None
        threshold = (
            self.threshold if null_score_diff_threshold is None else null_score_diff_threshold
        )
        if handle_impossible_answer is None:
            handle_impossible_answer = threshold is not None
        if handle_impossible_answer:
            cls = self.layout.cls_index
            # No window may have an answer, so the one that is least sure of it counts.
            null_logit = min(float(s[cls] + e[cls]) for s, e in zip(starts, ends, strict=True))
            null_logit -= threshold or 0.0
        inside = [slice(w.first, w.first + len(w.char_start)) for w in windows]
        spans = decode_question(
            stacked([x[i] for x, i in zip(starts, inside, strict=True)], 0),
            stacked([x[i] for x, i in zip(ends, inside, strict=True)], 0),
            stacked([w.char_start for w in windows], -1),
            stacked([w.char_end for w in windows], -1),
            outputs[0]["part"].context,
            n_best=top_k,
            max_answer_length=max_answer_len,
            null_logit=null_logit,
        ) or [Span("", 0, 0, -np.inf, 0.0)]
        answers = [
            {"answer": span.text, "score": span.score, "start": span.start, "end": span.end}
            for span in spans
        ]
        return answers if top_k > 1 else answers[0]


def load_pipeline(
    model: str | Path,
    *,
    loading: LoadingArguments | None = None,
    device: str | None = None,
    dtype: str = "float32",
    **options: Any,
) -> QuestionAnsweringPipeline:
    """Load a pipeline from a model folder, the Hub or an ONNX folder.

    It reads windows as in the training of the model, if a results.json beside the model says it.

    Args:
        model: a folder or a model id; or a folder that `itrd-nlp export-onnx` wrote.
        loading: attention implementation and revision.
        device: where the model runs; default: the first accelerator, else the CPU.
        dtype: of the weights: float32, bfloat16 or float16. An ONNX model runs on the CPU as it was exported.
        options: those of `QuestionAnsweringPipeline`.

    Raises:
        UserError: model, tokenizer, device or an option cannot be used.

    Example:
        >>> qa = load_pipeline("runs/my_student", batch_size=16)  # doctest: +SKIP
    """
    name = str(model)
    loading = loading or LoadingArguments()
    network, tokenizer = answering_network(
        name,
        AutoModelForQuestionAnswering,
        Running(loading, device, dtype),
        onnx=OnnxQuestionAnsweringModel,
    )
    trained = trained_lengths(name, DataArguments, loading.model_revision)
    return QuestionAnsweringPipeline(
        network, tokenizer, device=network.device, trained=trained, **options
    )


@dataclass(frozen=True)
class _Part:
    """The part of a window that the model does not see. It is no tuple, because the base class takes tuples apart."""

    context: str
    window: Window


def _tokenizer_of(pipeline: Any) -> PreTrainedTokenizerBase:
    """The tokenizer. A pipeline of transformers may have none; this one has."""
    tokenizer: Any = pipeline.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def _length(row: Mapping[str, str]) -> int:
    """The characters that a model reads of a row."""
    return len(row["question"]) + len(row["context"])


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
