"""Classification of texts, pairs of texts and tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    EvalPrediction,
    PreTrainedTokenizerBase,
)

from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
from itrd_nlp.errors import UserError
from itrd_nlp.files import file_record
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.publish.page import TaskPage
from itrd_nlp.tasks.classification.analysis import (
    breakdown,
    check_answers,
    disagreements,
    row_accuracy,
    score_answers,
)
from itrd_nlp.tasks.classification.arguments import LabelArguments, TextArguments
from itrd_nlp.tasks.classification.data import Row, is_tokens, label_names, read_rows
from itrd_nlp.tasks.classification.features import (
    classification_features,
    collator,
    judged_positions,
    longest_input,
)
from itrd_nlp.tasks.classification.metrics import ClassificationMetrics, best_class
from itrd_nlp.tasks.classification.prediction import Labeller, read_texts
from itrd_nlp.tasks.lines import Line, Refuse
from itrd_nlp.tasks.task import Answerer, Answers, Task, TaskData, architecture_of, read_answers
from itrd_nlp.training.record import DataRecord


class ClassificationJudge:
    """``compute_metrics`` of a trainer: accuracy and F1 in percent, and the answers by name.

    Args:
        names: the labels in the order of their ids.
        labels: of each row the true ids, one or one a token; `IGNORED` where a token is not judged.
        judged: of each row of tokens the position of each judged token, None of one that the model does not read; None
            of texts.

    Attributes:
        predictions: number of a row, from 0 on, to its label, or to the labels of its judged tokens, None of those that
            the model has not read.
    """

    def __init__(
        self, names: list[str], labels: list[Any], judged: list[list[int | None]] | None
    ) -> None:
        self.names, self.labels, self.judged = names, labels, judged
        self.score = ClassificationMetrics(names, tokens=judged is not None)
        self.predictions: Answers = {}

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        found = np.asarray(outputs.predictions)
        true = self._true(found.shape)
        self.predictions = {str(i): self._named(i, found[i]) for i in range(len(self.labels))}
        return self.score(EvalPrediction(predictions=found, label_ids=true))

    def _true(self, shape: tuple[int, ...]) -> NDArray[Any]:
        if self.judged is None:
            return np.asarray(self.labels)
        true = np.full(shape, IGNORED)
        for row, labels in zip(true, self.labels, strict=True):
            row[: len(labels)] = labels[: len(row)]
        return true

    def _named(self, i: int, found: Any) -> Any:
        if self.judged is None:
            return self.names[int(found)]
        return [None if at is None else self.names[int(found[at])] for at in self.judged[i]]


class Classification(Task):
    """A label for each text, or for each token; judged by accuracy and F1."""

    name = "classification"
    arguments = TextArguments
    answer_arguments = LabelArguments
    metrics = {"accuracy": "accuracy", "f1": "F1"}  # noqa: RUF012
    main_metric = "accuracy"
    heads = ("ForSequenceClassification", "ForTokenClassification")
    page = TaskPage(unit="rows", groupings={"label": "label"})

    args: TextArguments

    @cached_property
    def _train(self) -> list[Row]:
        if self.args.train_file is None:
            raise UserError("train_file is not set, but training needs a file of JSON lines.")
        return read_rows(self.args.train_file, self.args.max_train_samples)

    @cached_property
    def _validation(self) -> list[Row]:
        if self.args.validation_file is None:
            raise UserError(
                "validation_file is not set, but evaluation needs a file of JSON lines."
            )
        return read_rows(self.args.validation_file, self.args.max_eval_samples)

    @property
    def head(self) -> type:
        """A head over the first token, or over each token, as the data have labels."""
        tokens = is_tokens(self._validation)
        return AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification

    @property
    def labels(self) -> list[str]:
        """The labels of the training data.

        Raises:
            UserError: there is one label alone, or the two files are of different kinds.
        """
        args, names = self.args, label_names(self._train)
        if is_tokens(self._train) != is_tokens(self._validation):
            raise UserError(
                f"{args.train_file} and {args.validation_file} are of different kinds; both must have a label a text, "
                "or both a label a token."
            )
        if len(names) < 2:
            raise UserError(
                f"{args.train_file} has the label {names[0]!r} alone, but at least two are needed."
            )
        return names

    @classmethod
    def head_for(cls, architecture: str) -> type:
        """See `Task.head_for`."""
        tokens = architecture.endswith("ForTokenClassification")
        return AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification

    def check_fine_tuning(self) -> None:
        """Read both files, which refuses what cannot be learned from."""
        _ = self.labels

    def check_distillation(self, args: Any) -> None:
        """Read both files, and refuse TextBrewer, whose recipe here reads span heads alone.

        Raises:
            UserError: see there.
        """
        _ = self.labels
        if isinstance(args, TextBrewerArguments):
            raise UserError(
                "TextBrewer's recipe is for question answering here; distil a classifier by ITRD."
            )

    def load(
        self, tokenizer: PreTrainedTokenizerBase, config: Any, *, training: bool = True
    ) -> TaskData:
        """See `Task.load`."""
        names = [config.id2label[i] for i in range(config.num_labels)]
        label2id = {name: i for i, name in enumerate(names)}
        max_length = longest_input(self.args.max_length, config)

        def features(rows: list[Row]) -> Dataset:
            return classification_features(rows, tokenizer, label2id, max_length=max_length)

        validation = self._validation
        evaluation = features(validation)
        column = "labels" if is_tokens(validation) else "label"
        files = {"validation": (self.args.validation_file, validation)}
        if training:
            files = {"train": (self.args.train_file, self._train), **files}
        content = json.dumps([max_length, names, validation], sort_keys=True)
        return TaskData(
            examples=validation,
            evaluation=evaluation,
            judge=ClassificationJudge(
                names, evaluation[column][:], judged_positions(validation, tokenizer, max_length)
            ),
            signature=hashlib.sha256(content.encode()).hexdigest()[:16],
            collator=collator(validation, tokenizer),
            tokenizer=tokenizer,
            datasets={
                split: DataRecord(**file_record(str(file), rows=len(rows)))
                for split, (file, rows) in files.items()
            },
            train=features(self._train) if training else None,
            preprocess_logits=best_class,
        )

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `Task.scores`: the accuracy of each row.

        A row with more judged tokens than the mean counts more, so that the mean over the rows is the accuracy over all
        tokens. Its score may then be above 1.
        """
        rows = cls(args)._validation
        return {"accuracy": row_accuracy(rows, answers)}

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: number of a row, from 0 on, to its label or labels."""
        rows = cls(args)._validation
        answers = check_answers(read_answers(Path(path)), rows, path)
        missing = len(rows) - len(answers)
        return {**score_answers(answers, rows), "rows": len(rows), "missing": missing}

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By the true label."""
        return {"label": breakdown(answers, data.examples)}

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """See `Task.disagreements`."""
        return disagreements(student, teacher, data.examples)

    @classmethod
    def asked(cls, source: str | None, options: Any, refuse: Refuse) -> Iterator[Line]:
        """See `Task.asked` and `itrd_nlp.tasks.classification.prediction.read_texts`."""
        return read_texts(source, options, refuse)

    @classmethod
    def answerer(
        cls,
        model: str,
        options: Any,
        *,
        loading: LoadingArguments,
        device: str | None,
        dtype: str,
        batch_size: int,
    ) -> Answerer:
        """See `Task.answerer`."""
        architecture = architecture_of(model, hub=True, revision=loading.model_revision)
        return Labeller(
            model,
            head=cls.head_for(architecture or ""),
            loading=loading,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            max_length=options.max_length,
        )
