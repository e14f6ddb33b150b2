"""The sizes of the windows in which a model reads a context: as asked for, else as in its training."""

from __future__ import annotations

from collections.abc import Mapping

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.question_answering.arguments import (
    DOC_STRIDE,
    MAX_LENGTH,
    check_window_size,
)


class WindowSizes:
    """The sizes of windows for one model.

    Args:
        most: the tokens that the model takes; None where it takes any number.
        trained: ``max_length`` and ``doc_stride`` of its training. They say nothing where the model cannot take them,
            because no context of the training was so long. Default: they are not known.
    """

    def __init__(self, most: int | None, trained: Mapping[str, int] | None = None) -> None:
        self.most = most
        fits = trained and (most is None or trained["max_length"] <= most)
        self.trained = trained if fits else None

    def check(self, max_length: int | None) -> None:
        """Refuse windows that are longer than the model takes.

        Raises:
            UserError: names both lengths.
        """
        if max_length is not None and self.most is not None and max_length > self.most:
            raise UserError(
                f"max_length is {max_length}, but the model takes no more than {self.most} tokens."
            )

    def of(self, max_length: int | None = None, doc_stride: int | None = None) -> tuple[int, int]:
        """The most tokens of a window, and those that neighbours share.

        Args:
            max_length: as asked for. Default: that of the training, else 384 or what the model takes if that is less.
            doc_stride: as asked for. Default: that of the training, else 128. It is no more than a third of a window of
                another length than that of the training.

        Raises:
            UserError: see `check_window_size`.
        """
        trained = self.trained or {}
        if max_length is None:
            max_length = trained.get("max_length", min(MAX_LENGTH, self.most or MAX_LENGTH))
        if doc_stride is None:
            doc_stride = trained.get("doc_stride", DOC_STRIDE)
            if max_length != trained.get("max_length"):
                doc_stride = min(doc_stride, max_length // 3)
        check_window_size(max_length, doc_stride)
        return max_length, doc_stride
