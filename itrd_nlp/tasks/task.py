"""A task has data, a head and metrics, and knows how an answer is shown. Each job is written once for all tasks."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from datasets import Dataset
from numpy.typing import NDArray
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from itrd_nlp.distillation.task_losses import TaskLosses, TaskLossFunction
from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json
from itrd_nlp.models.loading import check_model_folder
from itrd_nlp.models.options import Running
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.tasks.answers import Answers as Answers
from itrd_nlp.tasks.answers import read_answers as read_answers
from itrd_nlp.tasks.lines import Line, Refuse
from itrd_nlp.tasks.measures import Measures
from itrd_nlp.training.record import DataRecord, RunRecord


class Judge(Protocol):
    """``compute_metrics`` of a trainer, which remembers the answers.

    Attributes:
        predictions: the answers of the last call.
    """

    predictions: Answers

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        """Every metric of the task in percent."""


class Answerer(Protocol):
    """A model that answers examples one after the other."""

    def check(self, line: Line) -> None:
        """Refuse an example that cannot be answered, without running the model.

        Raises:
            UserError: says where it stands.
        """

    def answer(self, lines: Iterator[Line]) -> Iterator[dict[str, Any]]:
        """The answers to examples that `check` lets pass, in their order; read no further than 16 batches ahead."""


@dataclass
class TaskData:
    """The examples of a task as one model reads them.

    Attributes:
        examples: the rows that a model is judged on.
        evaluation: the same as features of the model.
        judge: scores the outputs for them; it knows the true answers itself.
        signature: digest of the examples and of how they are read and decoded. Equal signatures can be compared.
        collator: pads features to a batch.
        tokenizer: the model's.
        datasets: split to the record of its data.
        train: features to train on; None where nothing is trained.
        calibration: features that `Task.calibrate` reads, so that `digest` covers them; None where it reads none.
        preprocess_logits: as ``preprocess_logits_for_metrics`` of a trainer.
        losses: the task loss and the KD of a task that has its own; None: the head has a loss, and its logits say how
            KD compares them.
    """

    examples: Any
    evaluation: Dataset
    judge: Judge
    signature: str
    collator: Callable[[list[dict[str, Any]]], Any]
    tokenizer: PreTrainedTokenizerBase
    datasets: dict[str, DataRecord]
    train: Dataset | None = None
    calibration: Dataset | None = None
    preprocess_logits: Callable[..., Any] | None = None
    losses: TaskLosses | None = None

    @cached_property
    def digest(self) -> str:
        """Digest of all that the model reads: of every column of the examples, and of every token of the features.

        The signature is one of less, because it is compared with those of earlier versions.
        """
        digest = hashlib.sha256(self.signature.encode())
        for row in self.examples:
            digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
        for features in (self.evaluation, self.calibration):
            if features is None:
                continue
            tokens = features.select_columns(["input_ids"]).with_format("arrow")
            for table in tokens.iter(batch_size=1000):
                ids = table["input_ids"].combine_chunks()
                for numbers in (ids.value_lengths(), ids.flatten()):
                    digest.update(numbers.to_numpy().tobytes())
        return digest.hexdigest()[:16]

    def trainer_kwargs(self) -> dict[str, Any]:
        """The arguments of a `transformers.Trainer` that follow from the data."""
        own = {"compute_loss_func": TaskLossFunction(self.losses)} if self.losses else {}
        return self._shared() | own

    def distiller_kwargs(self) -> dict[str, Any]:
        """The arguments of a trainer with a teacher that follow from the data."""
        return self._shared() | ({"losses": self.losses} if self.losses else {})

    def _shared(self) -> dict[str, Any]:
        return {
            "train_dataset": self.train,
            "eval_dataset": self.evaluation,
            "data_collator": self.collator,
            "processing_class": self.tokenizer,
            "compute_metrics": self.judge,
            "preprocess_logits_for_metrics": self.preprocess_logits,
        }


class Task(ABC):
    """A task, bound to its data.

    A new task is a folder with a subclass, and one line in `itrd_nlp.tasks.TASKS`. Commands, comparison, card, report,
    Hub and export come with it.

    Attributes:
        name: on the command line, in configs and in records.
        arguments: dataclass of the data.
        answer_arguments: dataclass of what a prediction may be asked for.
        metrics: name of a metric to its heading in tables; see `measures`.
        main_metric: the metric by which methods are compared. It is the mean of `scores` over the examples.
        heads: ends of the classes of transformers that have the task's heads.
        page: how card, Hub and report show the task.
        has_evaluation_loss: whether an evaluation has a loss, so that it can choose the best checkpoint.
        joins_teachers: whether the mean of what several teachers predict is a prediction.
        unanswered: the end of the sentence about examples that a model has not answered.
        of_a_model: options of the data that only a model reads, so that they do nothing for a file of answers.
        reading: name of each option of the data that every later command needs again, to the placeholder that is
            printed where it has no value.

    Args:
        args: an instance of `arguments`.
    """

    name: ClassVar[str]
    arguments: ClassVar[type]
    answer_arguments: ClassVar[type]
    metrics: ClassVar[Mapping[str, str]]
    main_metric: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    page: ClassVar[TaskPage]
    has_evaluation_loss: ClassVar[bool] = True
    joins_teachers: ClassVar[bool] = True
    unanswered: ClassVar[str] = "have no answer and count 0, see the warnings."
    of_a_model: ClassVar[tuple[str, ...]] = ("max_length",)
    reading: ClassVar[Mapping[str, str | None]] = {}

    def __init__(self, args: Any) -> None:
        self.args = args

    # ---- data and head ----

    @property
    def files(self) -> list[str]:
        """The files and data sets that the task reads: the arguments whose names end in ``_file``."""
        values = [getattr(self.args, f.name) for f in fields(self.args) if f.name.endswith("_file")]
        return [str(value) for value in values if value is not None]

    @property
    def measures(self) -> Measures:
        """The metrics on these data: those of the class, where all data of the task have the same."""
        return Measures(self.metrics, self.main_metric)

    @property
    @abstractmethod
    def head(self) -> type:
        """The class of transformers that loads a model with the head, such as ``AutoModelForTokenClassification``."""

    @property
    def labels(self) -> list[str] | None:
        """The labels of a new head; None where the head has none."""
        return None

    @property
    def problem_type(self) -> str | None:
        """The ``problem_type`` of a new head, by which transformers chooses the loss; None: it follows from labels."""
        return None

    @property
    def reads_words(self) -> bool:
        """Whether the examples are lists of words, which a tokenizer must read as it reads a text."""
        return False

    def check_fine_tuning(self) -> None:  # noqa: B027
        """Refuse data that a training without a teacher cannot learn from.

        Raises:
            UserError: names the argument.
        """

    def check_distillation(self, args: Any) -> None:  # noqa: B027
        """Refuse an objective that does not fit the data.

        Args:
            args: the arguments of the distillation.

        Raises:
            UserError: names the argument.
        """

    def judged_beside(self, teacher: PreTrainedModel, student: PreTrainedModel) -> None:  # noqa: B027
        """Take both models of a distillation before `load`: a task without labels judges one beside the other."""

    @abstractmethod
    def load(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = True
    ) -> TaskData:
        """Read the data and turn them into features.

        Args:
            tokenizer: of the model.
            model: whose configuration has the labels of a classifier, and which says how many tokens it takes.
            training: whether there is something to train on, too.

        Raises:
            UserError: a file is missing or cannot be used, or does not fit the model.
        """

    def warn(self, data: TaskData) -> None:  # noqa: B027
        """Say what is odd about the data, for example questions that are trained on and judged on."""

    def metrics_of(self, data: TaskData | None) -> Mapping[str, str]:
        """Every metric of these data, `metrics` first, or of any data where None stands for them."""
        return self.measures.headings

    def calibrate(
        self, data: TaskData, config: Any, predict: Callable[[Dataset], Any], *, trained: bool
    ) -> dict[str, float]:
        """Decide how the outputs of a model are decoded, before it is judged.

        Args:
            data: the examples; its judge is told.
            config: of the model.
            predict: from features to the outputs of the model, as a judge gets them.
            trained: whether the model comes from the training at hand, so that it has no settings of its own yet. They
                become fields of its ``config.json``.

        Returns:
            The settings, for the record. Empty where there is nothing to decide.
        """
        return {}

    # ---- answers ----

    @classmethod
    @abstractmethod
    def head_for(cls, architecture: str) -> type:
        """The class of transformers that loads a model of this architecture, one of `heads`."""

    @classmethod
    @abstractmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Scores of every example by itself, for the intervals of a comparison.

        Args:
            args: an instance of `arguments`.
            answers: of one model. An example without one scores 0. In a correlation it has the mean of the others.

        Returns:
            Name of a metric to ``(examples,)`` numbers, 1 for 100 percent, whose mean is the metric; the main one is
            among them. Of one that is no mean, such as a correlation, each is the metric plus the example's influence.
        """

    @classmethod
    def sources(cls, args: Any) -> NDArray[Any] | None:
        """The source of every example, such as the article of a question, for the intervals of a comparison.

        Examples of one source are alike, so the intervals draw sources.

        Args:
            args: an instance of `arguments`.

        Returns:
            ``(examples,)`` integers, equal for examples of one source, in the order of `scores`; None where each
            example is a source by itself. `page.sources` is the noun for them.
        """
        return None

    @classmethod
    @abstractmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """The metrics of a file of answers, one JSON object as `read_answers` reads it.

        Args:
            args: an instance of `arguments`.
            path: of the file.

        Raises:
            UserError: the file or the data cannot be used, or do not belong together.
        """

    @abstractmethod
    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """Scores by groups of examples: a way to group them, then the group, then ``questions`` and the metrics."""

    @abstractmethod
    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any] | None:
        """The rows that both models answer differently; None where nothing is right or wrong. See `Disagreements`."""

    @classmethod
    @abstractmethod
    def asked(cls, source: str | None, options: Any, refuse: Refuse) -> Iterator[Line]:
        """The examples that a prediction is asked for.

        Args:
            source: a file, or ``-`` for stdin; None where `options` holds the only example.
            options: an instance of `answer_arguments`.
            refuse: takes the sentence about an example that cannot be read.

        Raises:
            UserError: the source cannot be read, or does not go with an option (at once).
        """

    @classmethod
    @abstractmethod
    def answerer(cls, model: str, options: Any, running: Running) -> Answerer:
        """Load a model that answers examples, for `itrd_nlp.tasks.jobs.predict`.

        Args:
            model: folder, ONNX folder or model id.
            options: an instance of `answer_arguments`.
            running: how the model is loaded and runs.

        Raises:
            UserError: the model or an option cannot be used.
        """


def signature_of(content: Any) -> str:
    """Digest of what a task is judged on and how it is read, as `TaskData.signature` holds it.

    Args:
        content: a value that JSON can store.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def architecture_of(
    folder: str | Path, *, hub: bool = False, revision: str | None = None
) -> str | None:
    """The class that ``config.json`` of a model names, None where it names none.

    Args:
        folder: of the model.
        hub: look on the Hub where there is no such folder.
        revision: branch, tag or commit there.

    Raises:
        UserError: the Hub is to be asked, and the name is that of something here which is no model, or the Hub does not
            know it or cannot be reached.
    """
    path = Path(folder)
    if hub:
        check_model_folder(str(folder), "model")
    if hub and not path.exists() and re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", str(folder)):
        try:
            content, _ = PreTrainedConfig.get_config_dict(str(folder), revision=revision)
        except (OSError, ValueError) as error:  # nobody asks a second time
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"model {folder} cannot be loaded: {reason}") from error
    elif (path / "config.json").is_file():
        try:
            content = read_json(path / "config.json")
        except UserError:
            return None
    else:
        return None
    names = content.get("architectures") if isinstance(content, dict) else None
    first = names[0] if isinstance(names, list) and names else None
    return first if isinstance(first, str) else None


def fits(task: type[Task], record: RunRecord | None, architecture: str | None) -> bool:
    """Whether a run is one of this task: by the name in its record, else by its head, else by its metrics."""
    if record is not None and record.task is not None:
        return record.task == task.name
    if architecture is not None:
        return architecture.endswith(task.heads)
    return record is not None and record.metrics == task.metrics
