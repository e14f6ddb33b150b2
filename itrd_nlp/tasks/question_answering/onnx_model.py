"""A span head under ONNX Runtime, called as a model of transformers is."""

from __future__ import annotations

from typing import ClassVar

from itrd_nlp.losses.outputs import SPAN_LOGITS
from itrd_nlp.models.onnx_model import OnnxModel


class OnnxQuestionAnsweringModel(OnnxModel):
    """An exported model with a span head; see `OnnxModel`.

    Example:
        >>> model = OnnxQuestionAnsweringModel.from_pretrained("runs/my_student/onnx_int8")  # doctest: +SKIP
        >>> model(**tokenizer(question, context, return_tensors="pt")).start_logits  # doctest: +SKIP
    """

    outputs: ClassVar[tuple[str, ...]] = SPAN_LOGITS
