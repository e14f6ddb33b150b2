"""The part of both tasks that does not depend on what an embedder is judged by."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from itrd_nlp.distillation.textbrewer_trainer import refuse_textbrewer
from itrd_nlp.errors import UserError
from itrd_nlp.files import file_record
from itrd_nlp.models.embedder import AutoModelForSentenceEmbedding
from itrd_nlp.models.options import Running
from itrd_nlp.tasks.batches import PairCollator
from itrd_nlp.tasks.embedding.arguments import EmbeddingArguments, EncodedArguments
from itrd_nlp.tasks.embedding.data import TrainingTexts, read_training
from itrd_nlp.tasks.embedding.features import text_features, training_features
from itrd_nlp.tasks.embedding.losses import EmbeddingLosses
from itrd_nlp.tasks.embedding.prediction import TextEncoder, read_asked
from itrd_nlp.tasks.lengths import prepare_reading
from itrd_nlp.tasks.lines import Line, Refuse, Row, has_more, named_file
from itrd_nlp.tasks.sources import sources_of
from itrd_nlp.tasks.task import Answerer, Judge, Task, TaskData, signature_of
from itrd_nlp.training.record import DataRecord

logger = logging.getLogger(__name__)


class EmbeddingTask(Task):
    """A vector for each text. A subclass says what it is judged by."""

    arguments = EmbeddingArguments
    answer_arguments = EncodedArguments
    heads = ("Model",)
    has_evaluation_loss = False
    # The mean of two vectors has not the length 1, and their widths may differ.
    joins_teachers = False

    args: EmbeddingArguments

    @cached_property
    def _train(self) -> TrainingTexts:
        found = read_training(named_file(self.args, "train"), self.args.max_train_samples)
        if not found.rows:
            raise UserError(
                f"{self.args.train_file} has no query with a relevant passage, so there is nothing to learn from."
            )
        return found

    @cached_property
    def _validation(self) -> list[Row]:
        return self.read_validation(named_file(self.args, "validation"))

    @abstractmethod
    def read_validation(self, path: str) -> list[Row]:
        """The rows to judge a model on.

        Raises:
            UserError: names the line and the field that is wrong.
        """

    @abstractmethod
    def judged_texts(self, rows: list[Row]) -> list[str]:
        """The texts of the rows to encode."""

    @abstractmethod
    def waiting(self, rows: list[Row]) -> list[str | None]:
        """Of each of `judged_texts` the number of the row that has to wait until it is encoded.

        None where no row has to: the text may be encoded before the row is asked for. Milliseconds are those of a row.
        """

    @abstractmethod
    def judge(self, rows: list[Row], order: list[int]) -> Judge:
        """The judge of the vectors of `judged_texts`, of which each feature has the place that ``order`` names."""

    @property
    def head(self) -> type:
        """See `itrd_nlp.models.embedder`."""
        return AutoModelForSentenceEmbedding

    @classmethod
    def head_for(cls, architecture: str) -> type:
        """See `Task.head_for`."""
        return AutoModelForSentenceEmbedding

    def check_fine_tuning(self) -> None:
        """Read both files, and refuse texts that teach nothing without a teacher.

        Raises:
            UserError: see there.
        """
        self._check_labelled("a training without a teacher learns from them")
        _ = self._validation

    def check_distillation(self, args: Any) -> None:
        """Read both files, and refuse an objective that they cannot serve.

        Raises:
            UserError: names the argument.
        """
        refuse_textbrewer(args, "an embedder")
        if args.w_task > 0:
            self._check_labelled(
                f"w_task is {args.w_task}; set it to 0 to learn from the teacher alone"
            )
        _ = self._train, self._validation

    def _check_labelled(self, why: str) -> None:
        if not self._train.labelled:
            raise UserError(
                f"{self.args.train_file} has {self._train.kind} without labels, but {why}."
            )
        labels = self._train.labels
        if self._train.kind == "pairs" and not (min(labels) >= -1 and max(labels) <= 1):
            raise UserError(
                f"{self.args.train_file} has scores from {min(labels):g} to {max(labels):g}, but a cosine learns those "
                "from -1 to 1; divide them, or set w_task to 0 in a distillation."
            )

    def load(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = True
    ) -> TaskData:
        """See `Task.load`. A training tells the tokenizer the length, so that the saved model reads texts as in it."""
        args = self.args
        longest = prepare_reading(args.max_length, model, tokenizer)
        rows = self._validation
        evaluation, order = text_features(
            self.judged_texts(rows), tokenizer, longest, self.waiting(rows)
        )
        sizes = {"validation": (args.validation_file, len(rows), args.max_eval_samples)}
        train = None
        if training:
            tokenizer.model_max_length = longest
            read = (args.train_file, len(self._train.rows), args.max_train_samples)
            sizes = {"train": read, **sizes}
            train = training_features(self._train, tokenizer, longest)
        kind = self._train.kind if training else "texts"
        return TaskData(
            examples=rows,
            evaluation=evaluation,
            judge=self.judge(rows, order),
            signature=signature_of([longest, rows]),
            collator=PairCollator(tokenizer),
            tokenizer=tokenizer,
            datasets={
                split: DataRecord(
                    **file_record(str(file), rows=count), subset=has_more(str(file), most)
                )
                for split, (file, count, most) in sizes.items()
            },
            train=train,
            losses=EmbeddingLosses(kind, args.kd_loss),
        )

    @classmethod
    def sources(cls, args: Any) -> NDArray[Any] | None:
        """See `Task.sources`. A row without a source is one by itself."""
        return sources_of(cls(args)._validation)

    @classmethod
    def asked(cls, source: str | None, options: Any, refuse: Refuse) -> Iterator[Line]:
        """See `Task.asked` and `itrd_nlp.tasks.embedding.prediction.read_asked`."""
        return read_asked(source, options, refuse)

    @classmethod
    def answerer(cls, model: str, options: Any, running: Running) -> Answerer:
        """See `Task.answerer`."""
        return TextEncoder(model, options, running)
