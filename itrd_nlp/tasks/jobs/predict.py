"""Answer the examples of a file or a pipe, on any task: what can be answered is, and what cannot is named."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from itrd_nlp.errors import UserError
from itrd_nlp.models.options import LoadingArguments, Running
from itrd_nlp.tasks.lines import NAMED, Line
from itrd_nlp.tasks.task import Answerer, Task

logger = logging.getLogger(__name__)

FROM_A_FILE = 16


class Refused:
    """The examples that could not be read or answered. Called with the sentence about each of them."""

    def __init__(self) -> None:
        self.first: UserError | None = None
        self.count = 0
        self.stopped = False

    def __call__(self, error: UserError) -> None:
        self._count(error, "It is passed over.")

    def stop(self, error: UserError) -> None:
        """Take the sentence about what the reader cannot go on behind."""
        self.stopped = True
        self._count(error, "What stands behind it is not read.")

    def _count(self, error: UserError, so: str) -> None:
        self.first = self.first or error
        self.count += 1
        if self.count <= NAMED or self.stopped:
            logger.warning("%s %s", error, so)

    def end(self) -> None:
        """Raise the first sentence, with the number of the others, if there is one."""
        if self.first is not None:
            others = self.count - 1
            more = f" {others} more could not be answered." if others else ""
            rest = " What stands behind the last of them is not read." if others else ""
            rest = rest or " What stands behind it is not read."
            raise UserError(f"{self.first}{more}{rest if self.stopped else ''}") from self.first


def predict(
    task: type[Task],
    model: str,
    source: str | None,
    options: Any,
    *,
    loading: LoadingArguments,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Answer examples as they come, in constant memory.

    Args:
        task: the task.
        model: folder, ONNX folder or model id.
        source: a file, or ``-`` for stdin; None where `options` holds the only example.
        options: an instance of the task's ``answer_arguments``.
        loading: how the model is loaded.
        device: where it runs; default: the first accelerator.
        dtype: of the weights.
        batch_size: number of examples at a time. Default: 1 from stdin, so that each line is answered at once, and 16
            from a file.

    Raises:
        UserError: the model, the source or an option cannot be used (at once); or an example could not be answered, see
            `answered`.
    """
    if batch_size is None:
        batch_size = 1 if source == "-" else FROM_A_FILE
    refused = Refused()
    lines = task.asked(source, options, refused)
    running = Running(loading, device, dtype, batch_size)
    return answered(lines, task.answerer(model, options, running), refused)


def answered(
    lines: Iterable[Line], answerer: Answerer, refused: Refused | None = None
) -> Iterator[dict[str, Any]]:
    """Answer all examples that can be answered, and name the others at the end.

    Args:
        lines: the examples. Read no further than 16 batches ahead.
        answerer: knows the model.
        refused: takes what is passed over, and may have been told of some by the reader.

    Raises:
        UserError: an example could not be read or answered. All others are answered by then; where the reader cannot
            go on, those before it.
    """
    refused = refused or Refused()

    def usable() -> Iterator[Line]:
        try:
            for line in lines:
                try:
                    answerer.check(line)
                except UserError as error:
                    refused(error)
                    continue
                yield line
        except UserError as error:  # of the reader, which cannot go on
            refused.stop(error)

    yield from answerer.answer(usable())
    refused.end()
