"""Classification of texts, pairs of texts and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from itrd_nlp.distillation.textbrewer_trainer import refuse_textbrewer
from itrd_nlp.errors import UserError
from itrd_nlp.models.options import Running
from itrd_nlp.models.tokenizing import warn_of_joined_words
from itrd_nlp.publish.page import LossUnits, TaskPage
from itrd_nlp.tasks.classification.analysis import check_answers, disagreements, groups_of
from itrd_nlp.tasks.classification.arguments import METRICS, LabelArguments, TextArguments
from itrd_nlp.tasks.classification.data import (
    Source,
    is_tokens,
    kind_of,
    label_names,
    read_source,
)
from itrd_nlp.tasks.classification.features import (
    classification_features,
    collator,
    judged_positions,
)
from itrd_nlp.tasks.classification.judge import (
    RowsJudge,
    named_answers,
    numbers,
    outputs_of,
    scores_of,
    several_answers,
)
from itrd_nlp.tasks.classification.measures import (
    ENTITIES,
    KNOWN,
    of_half,
    possible_metrics,
    row_scores,
    usual_metrics,
)
from itrd_nlp.tasks.classification.prediction import Labeller, read_texts
from itrd_nlp.tasks.lengths import prepare_reading
from itrd_nlp.tasks.lines import Line, Refuse, Row
from itrd_nlp.tasks.measures import Measures
from itrd_nlp.tasks.task import (
    Answerer,
    Task,
    TaskData,
    architecture_of,
    read_answers,
    signature_of,
)
from itrd_nlp.training.record import RunRecord

PROBLEM_TYPE_OF_KIND = {
    "label": "single_label_classification",
    "labels": "multi_label_classification",
    "value": "regression",
}
"""Kind of rows to the name of transformers for it."""


def kd_term(record: RunRecord) -> str:
    """The loss of logit KD as the card of a student writes it."""
    terms = {
        "regression": "mean squared difference of the outputs of teacher and student",
        "multi_label_classification": "T² KL(teacher ‖ student) of each label by itself, their mean",
    }
    return terms.get(str(_problem_type(record)), "T² KL(teacher ‖ student)")


def loss_units(record: RunRecord) -> LossUnits:
    """The axes of the report's curves, by the labels of the data."""
    units = {
        "regression": LossUnits("mean squared error", "mean squared difference"),
        "multi_label_classification": LossUnits(
            "binary cross entropy (nats)", "T² KL of a label (nats)"
        ),
    }
    return units.get(str(_problem_type(record)), LossUnits())


def _problem_type(record: RunRecord) -> str | None:
    """The problem type of a record. Earlier versions did not write it; metrics of one kind of labels tell."""
    if record.problem_type is None and record.metrics.keys() & set(KNOWN["value"]):
        return "regression"
    if record.problem_type is None and record.metrics.keys() & {"micro_f1", "macro_f1"}:
        return "multi_label_classification"
    return record.problem_type


class Classification(Task):
    """A label, several labels or a number for each text, or a label for each token.

    The metrics follow from the data, see `measures`. Those of the class are the ones of one label a text or a token.
    """

    name = "classification"
    arguments = TextArguments
    answer_arguments = LabelArguments
    metrics = {"accuracy": "accuracy", "f1": "F1"}  # noqa: RUF012
    main_metric = "accuracy"
    heads = ("ForSequenceClassification", "ForTokenClassification")
    reading = dict.fromkeys(
        (
            "text_column",
            "text_pair_column",
            "label_columns",
            "problem_type",
            "metrics",
            "positive_label",
        )
    )
    page = TaskPage(
        unit="rows",
        groupings={"label": "label", "type": "entity type"},
        kd=kd_term,
        loss_units=loss_units,
    )

    args: TextArguments

    @cached_property
    def _train(self) -> Source:
        return read_source(self.args, "train")

    @cached_property
    def _validation(self) -> Source:
        return read_source(self.args, "validation")

    @cached_property
    def measures(self) -> Measures:
        """The metrics that are asked for, else the usual ones of such data. The first one is the main one.

        Raises:
            UserError: the data cannot have a metric that is asked for.
        """
        args, rows = self.args, self._validation.rows
        kind, names = kind_of(rows), label_names(rows)
        if (
            kind == "tokens" and args.train_file is not None
        ):  # the validation data may hold no entity
            names = [*names, *label_names(self._train.rows)]
        possible = possible_metrics(kind, names)
        for name in args.metrics:
            if name not in possible:
                raise UserError(
                    f"metrics name {name!r}, but those of {args.validation_file} are {', '.join(possible)}."
                )
        if args.positive_label is not None and args.positive_label not in names:
            raise UserError(
                f"positive_label is {args.positive_label!r}, but {args.validation_file} has the labels "
                f"{', '.join(names)}."
            )
        chosen = self._with_rows(args.metrics or usual_metrics(kind, names))
        headings = {name: METRICS[name] for name in chosen}
        if "f1" in headings and set(ENTITIES) & headings.keys():
            headings["f1"] = "token F1"
        return Measures(headings, chosen[0])

    def _with_rows(self, metrics: Sequence[str]) -> list[str]:
        """The metrics without those of a half of MNLI that the data do not have, as files of one's own.

        Raises:
            UserError: such a metric was asked for by its name, and not by that of the task of GLUE.
        """
        kept = []
        for name in metrics:
            if name.startswith("accuracy_") and not any(
                of_half(name, row) for row in self._validation.rows
            ):
                if self.args.glue is None:
                    raise UserError(
                        f"metrics name {name!r}, but {self.args.validation_file} has no row of a split "
                        f"validation{name.removeprefix('accuracy')}."
                    )
                continue
            kept.append(name)
        return kept

    @property
    def head(self) -> type:
        """A head over the first token, or over each token, as the data have labels."""
        words = self.reads_words
        return AutoModelForTokenClassification if words else AutoModelForSequenceClassification

    @property
    def reads_words(self) -> bool:
        """See `Task.reads_words`."""
        return is_tokens(self._validation.rows)

    @property
    def problem_type(self) -> str | None:
        """That of a new head over texts; None of tokens."""
        return PROBLEM_TYPE_OF_KIND.get(kind_of(self._validation.rows))

    @property
    def labels(self) -> list[str]:
        """The labels of the training data.

        Raises:
            UserError: there is one label alone, or the two files are of different kinds.
        """
        args, train = self.args, self._train
        kinds = [kind_of(source.rows) for source in (train, self._validation)]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"{args.train_file} and {args.validation_file} are of different kinds; both must have a label a text, "
                "or both a label a token, or both a list of labels a text."
            )
        names = train.names or label_names(train.rows)
        if not names:
            raise UserError(f"{args.train_file} has no label in any row.")
        if len(names) < 2 and kinds[0] in ("label", "tokens"):
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
        _ = self.labels, self.measures

    def check_distillation(self, args: Any) -> None:
        """Read both files, and refuse TextBrewer, whose recipe here reads span heads alone.

        Raises:
            UserError: see there.
        """
        _ = self.labels, self.measures
        refuse_textbrewer(args, "a classifier")

    def load(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = True
    ) -> TaskData:
        """See `Task.load`."""
        _check_head(model.config, self._validation.rows, self.args.validation_file)
        args, names = self.args, self._names(model.config)
        label2id = {name: i for i, name in enumerate(names)}
        max_length = prepare_reading(args.max_length, model, tokenizer)
        features = partial(classification_features, tokenizer=tokenizer, label2id=label2id)
        rows = self._validation.rows
        if self.reads_words:
            warn_of_joined_words(tokenizer)
        sources = {"validation": self._validation}
        if training:
            sources = {"train": self._train, **sources}
        return TaskData(
            examples=rows,
            evaluation=features(rows, max_length=max_length),
            judge=self._judge(tokenizer, names, max_length),
            signature=signature_of([max_length, names, rows, *self._counted]),
            collator=collator(rows, tokenizer),
            tokenizer=tokenizer,
            datasets={split: source.record for split, source in sources.items()},
            train=features(self._train.rows, max_length=max_length, all_parts=args.label_all_tokens)
            if training
            else None,
            preprocess_logits=outputs_of(kind_of(rows)),
        )

    @property
    def _counted(self) -> list[str]:
        """The label that a metric counts, where there is one: the same answers have other scores by another label."""
        return [] if self.args.positive_label is None else [self.args.positive_label]

    def _judge(
        self, tokenizer: PreTrainedTokenizerBase, names: list[str], max_length: int
    ) -> RowsJudge:
        """The judge of the rows to evaluate on."""
        rows = self._validation.rows
        kind = kind_of(rows)
        answer: Any
        if kind == "value":
            answer = numbers
        elif kind == "labels":
            answer = partial(several_answers, names=names)
        else:
            positions = judged_positions(rows, tokenizer, max_length)
            answer = partial(named_answers, names=names, judged=positions)
        return RowsJudge(rows, answer, list(self.measures.headings), self.args.positive_label)

    def _names(self, config: Any) -> list[str]:
        """The labels of a model. Those that it calls LABEL_0 and so on are the labels of the data by their numbers."""
        names = [str(config.id2label[i]) for i in range(config.num_labels)]
        numbered = self._validation.names
        if numbered and names == [f"LABEL_{i}" for i in range(len(numbered))]:
            return numbered
        return names

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `Task.scores`: the main metric of each row, see `itrd_nlp.tasks.classification.measures.row_scores`.

        The accuracy of tokens is a quotient of sums over the rows. A row with more judged tokens than the mean counts
        more, and its number may be above 1 and below 0.
        """
        task = cls(args)
        main = task.measures.main
        rows = task._validation.rows
        return {main: row_scores(main, rows, answers, task.args.positive_label)}

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: number of a row, from 0 on, to its label, labels or number."""
        task = cls(args)
        rows = task._validation.rows
        answers = check_answers(read_answers(Path(path)), rows, path)
        missing = len(rows) - len(answers)
        scores = scores_of(answers, rows, list(task.measures.headings), task.args.positive_label)
        return {**scores, "rows": len(rows), "missing": missing}

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By the true label, or by the type of an entity; numbers have no groups."""
        return groups_of(answers, data.examples, self.measures.headings)

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
    def answerer(cls, model: str, options: Any, running: Running) -> Answerer:
        """See `Task.answerer`."""
        revision = running.loading.model_revision
        architecture = architecture_of(model, hub=True, revision=revision)
        return Labeller(model, options, running, head=cls.head_for(architecture or ""))


def _check_head(config: Any, rows: Sequence[Row], file: str | None) -> None:
    """Refuse a model whose head says something else than the data.

    Raises:
        UserError: names the problem type of both.
    """
    kind, given = kind_of(rows), config.problem_type
    needed = PROBLEM_TYPE_OF_KIND.get(kind, given)
    if given not in (None, needed):
        raise UserError(
            f"the model has the problem_type {given}, but {file} needs one for {needed}."
        )
    if kind == "value" and config.num_labels != 1:
        raise UserError(
            f"the model has {config.num_labels} labels, but {file} has numbers to predict, which need a model with one "
            "output."
        )
