"""An encoder without a head, whose hidden states alone teach, on text without masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import check_same_vocabulary, load_model, load_tokenizer
from itrd_nlp.models.masked_lm import AutoModelForStates
from itrd_nlp.models.options import LoadingArguments, Running
from itrd_nlp.tasks.answers import answers_to
from itrd_nlp.tasks.batches import longest_first
from itrd_nlp.tasks.groups import by_words
from itrd_nlp.tasks.lengths import prepare_reading
from itrd_nlp.tasks.lines import Line, Refuse, finite
from itrd_nlp.tasks.masked_lm.analysis import TEXT_WORDS
from itrd_nlp.tasks.masked_lm.arguments import EncoderArguments, NoArguments
from itrd_nlp.tasks.masked_lm.base import PlainTextTask, logger
from itrd_nlp.tasks.masked_lm.features import padded, pieces_of
from itrd_nlp.tasks.masked_lm.likeness import (
    LikenessJudge,
    check_widths,
    reference_states,
    spread_states,
)
from itrd_nlp.tasks.masked_lm.losses import NoLosses
from itrd_nlp.tasks.masked_lm.page import ENCODER
from itrd_nlp.tasks.task import Answerer, TaskData, read_answers, signature_of
from itrd_nlp.training.identity import weights_digest


class StatesCollator:
    """Pads features to a batch. ``labels`` is the number of tokens of each piece."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = padded(rows, self.tokenizer)
        return batch | ({"labels": batch["attention_mask"].sum(1)} if "labels" in rows[0] else {})


class Encoder(PlainTextTask):
    """The hidden states of plain text, judged by their cosine with those of the teacher."""

    name = "encoder"
    arguments = EncoderArguments
    answer_arguments = NoArguments
    metrics = {"cosine": "cosine"}  # noqa: RUF012
    main_metric = "cosine"
    reading = {"text_column": None, "reference": "TEACHER"}  # noqa: RUF012
    of_a_model = ("max_length", "reference")
    heads = ("Model",)
    page = ENCODER
    has_evaluation_loss = False

    args: EncoderArguments
    _teacher: PreTrainedModel | None = None
    _student: PreTrainedModel | None = None

    @property
    def head(self) -> type:
        """None: the output is the last hidden state."""
        return AutoModelForStates

    @classmethod
    def head_for(cls, architecture: str) -> type:
        """See `Task.head_for`."""
        return AutoModelForStates

    def check_fine_tuning(self) -> None:
        """Refuse a training without a teacher.

        Raises:
            UserError: names the task that has labels.
        """
        raise UserError(
            "the task encoder has no labels, so that nothing is learned without a teacher; take itrd-nlp distil, or "
            "--task masked-lm, which trains a head."
        )

    def check_distillation(self, args: Any) -> None:
        """Read both sources, and refuse losses that read a head.

        Raises:
            UserError: names the arguments.
        """
        for name in ("w_kd", "w_task"):
            if getattr(args, name) > 0:
                raise UserError(
                    f"{name} is {getattr(args, name)}, but the task encoder has a teacher without a head, which has "
                    "neither logits nor labels to learn from; set w_kd and w_task to 0."
                )
        super().check_distillation(args)

    def judged_beside(self, teacher: PreTrainedModel, student: PreTrainedModel) -> None:
        """See `Task.judged_beside`. A reference that the arguments name goes before."""
        self._teacher, self._student = teacher, student

    def load(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = True
    ) -> TaskData:
        """See `Task.load`. Nothing is masked. The tokenizer keeps its own length."""
        reference = self._reference(tokenizer)
        check_widths(self._student or model, reference)
        longest = prepare_reading(self.args.max_length, model, tokenizer)
        texts = [row["text"] for row in self.rows]
        pieces = pieces_of(texts, tokenizer, longest)
        lengths = [len(ids) for ids in pieces.columns["input_ids"]]
        numbers = [str(number) for number in pieces.texts]
        evaluation, order = longest_first(
            pieces.columns | {"labels": lengths, "example_id": numbers}
        )
        collator = StatesCollator(tokenizer)
        empty = len(texts) - len(set(numbers))
        if empty:
            logger.warning(
                "The tokenizer makes nothing of %d of %d texts, which count 0 for every model.",
                empty,
                len(texts),
            )
        train = None
        if training:
            of_train = [row["text"] for row in self._train.rows]
            train, _ = longest_first(pieces_of(of_train, tokenizer, longest).columns)
        return TaskData(
            examples=self.rows,
            evaluation=evaluation,
            judge=LikenessJudge(
                lambda: reference_states(reference, evaluation, collator),
                [pieces.texts[i] for i in order],
                len(texts),
            ),
            signature=signature_of([longest, weights_digest(reference), texts]),
            collator=collator,
            tokenizer=tokenizer,
            datasets=self.records(training=training),
            train=train,
            preprocess_logits=spread_states,
            losses=NoLosses(),
        )

    def _reference(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
        """The model whose states are the true ones.

        Raises:
            UserError: there is none, it cannot be loaded, or it reads other token ids than those of `tokenizer`.
        """
        name, loading = self.args.reference, LoadingArguments()
        if name is not None:
            model = load_model(name, role="reference", args=loading, head=AutoModelForStates)
            theirs = load_tokenizer(name, loading)
            check_same_vocabulary(tokenizer, theirs, role="model")
            return model
        if self._teacher is None:
            raise UserError(
                "reference is not set, but an encoder without a head is judged beside another one; name its teacher by "
                "--reference, or fine-tune it on a task and judge it there."
            )
        return self._teacher

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `Task.scores`: the mean cosine of each text."""
        count = len(cls(args).rows)
        return {"cosine": np.array([float(answers.get(str(i), 0.0)) for i in range(count)])}

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: number of a text, from 0 on, to its mean cosine."""
        count = len(cls(args).rows)
        kept = answers_to(read_answers(Path(path)), count, path, "texts")
        for name, value in kept.items():
            number = finite(value)
            if number is None or not -1 <= number <= 1:
                raise UserError(
                    f"{path}: the answer to text {name} is {value!r}, but must be a cosine, from -1 to 1."
                )
        score = 100 * sum(kept.values()) / count
        return {"cosine": score, "rows": count, "missing": count - len(kept)}

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By the number of words of the text."""

        def score(numbers: list[int]) -> dict[str, float]:
            found = [float(answers.get(str(i), 0.0)) for i in numbers]
            return {"cosine": 100 * float(np.mean(found))}

        return {"words": by_words([row["text"] for row in data.examples], TEXT_WORDS, score)}

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> None:
        """See `Task.disagreements`. States are neither right nor wrong."""

    @classmethod
    def asked(cls, source: str | None, options: Any, refuse: Refuse) -> Iterator[Line]:
        """Refuse a question.

        Raises:
            UserError: says what such a model is for.
        """
        raise UserError(
            "an encoder without a head answers nothing; fine-tune it on a task first, or read its states by AutoModel "
            "of transformers."
        )

    @classmethod
    def answerer(cls, model: str, options: Any, running: Running) -> Answerer:
        """See `asked`, which refuses before."""
        raise UserError("an encoder without a head answers nothing.")
