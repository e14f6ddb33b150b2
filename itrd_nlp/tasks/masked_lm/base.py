"""The part of both tasks that does not depend on the head."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from itrd_nlp.distillation.textbrewer_trainer import refuse_textbrewer
from itrd_nlp.tasks.lines import Row
from itrd_nlp.tasks.masked_lm.arguments import PlainTextArguments
from itrd_nlp.tasks.masked_lm.data import Texts, read_texts
from itrd_nlp.tasks.sources import sources_of
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.training.record import DataRecord

logger = logging.getLogger(__name__)


class PlainTextTask(Task):
    """Plain text. A subclass says what is learned from it."""

    args: PlainTextArguments

    @cached_property
    def _train(self) -> Texts:
        return read_texts(self.args, "train")

    @cached_property
    def _validation(self) -> Texts:
        return read_texts(self.args, "validation")

    @property
    def rows(self) -> list[Row]:
        """The texts to judge a model on."""
        return self._validation.rows

    def check_fine_tuning(self) -> None:
        """Read both sources, which refuses what is no text."""
        _ = self._train, self._validation

    def check_distillation(self, args: Any) -> None:
        """Read both sources, and refuse TextBrewer, whose recipe here reads span heads alone.

        Raises:
            UserError: see there.
        """
        refuse_textbrewer(args, "plain text")
        _ = self._train, self._validation

    def records(self, *, training: bool) -> dict[str, DataRecord]:
        """Split to the record of its texts."""
        train = {"train": self._train.record} if training else {}
        return train | {"validation": self._validation.record}

    def warn(self, data: TaskData) -> None:
        """Say how many texts are trained on and judged on."""
        if data.train is None:
            return
        known = {row["text"] for row in self._train.rows}
        both = sum(row["text"] in known for row in self.rows)
        if both:
            logger.warning("%d of %d texts are trained on and judged on.", both, len(self.rows))

    @classmethod
    def sources(cls, args: Any) -> NDArray[Any] | None:
        """See `Task.sources`. A text without a source is one by itself."""
        return sources_of(cls(args).rows)
