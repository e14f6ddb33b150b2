"""Masked language modelling: the tokens of plain text that a model does not see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.models.masked_lm import AutoModelForMaskedLM
from itrd_nlp.models.options import Running
from itrd_nlp.tasks.groups import by_words
from itrd_nlp.tasks.lengths import prepare_reading
from itrd_nlp.tasks.lines import Line, Refuse
from itrd_nlp.tasks.masked_lm.analysis import (
    TEXT_WORDS,
    MaskedJudge,
    check_answers,
    disagreements,
    scores_of,
    text_scores,
)
from itrd_nlp.tasks.masked_lm.arguments import MaskArguments, MaskedLMArguments
from itrd_nlp.tasks.masked_lm.base import PlainTextTask
from itrd_nlp.tasks.masked_lm.features import (
    Masker,
    MaskingCollator,
    evaluation_features,
    pieces_of,
    training_features,
)
from itrd_nlp.tasks.masked_lm.losses import MaskedLosses, predicted
from itrd_nlp.tasks.masked_lm.page import MASKED_LM
from itrd_nlp.tasks.masked_lm.prediction import MaskFiller, check_mask, read_asked
from itrd_nlp.tasks.task import Answerer, TaskData, read_answers, signature_of


class MaskedLM(PlainTextTask):
    """The masked tokens of plain text, judged by their accuracy and by the pseudo-perplexity."""

    name = "masked-lm"
    arguments = MaskedLMArguments
    answer_arguments = MaskArguments
    metrics = {"accuracy": "masked accuracy"}  # noqa: RUF012
    main_metric = "accuracy"
    heads = ("ForMaskedLM",)
    reading = dict.fromkeys(("text_column", "mlm_probability"))
    of_a_model = ("max_length", "mlm_probability")
    page = MASKED_LM

    args: MaskedLMArguments

    @property
    def head(self) -> type:
        """A head over each token with a logit for each token of the vocabulary."""
        return AutoModelForMaskedLM

    @classmethod
    def head_for(cls, architecture: str) -> type:
        """See `Task.head_for`."""
        return AutoModelForMaskedLM

    def check_distillation(self, args: Any) -> None:
        """Read both sources, and refuse a cache of the teacher, which would never be read.

        Raises:
            UserError: names the argument.
        """
        super().check_distillation(args)
        if args.teacher_cache != "off":
            raise UserError(
                f"teacher_cache is {args.teacher_cache!r}, but other tokens are masked in every epoch, so that no "
                "output of the teacher is read twice; set it to off."
            )

    def load(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, *, training: bool = True
    ) -> TaskData:
        """See `Task.load`. The tokenizer keeps its own length: a task that comes later may have longer texts."""
        check_mask(tokenizer)
        longest = prepare_reading(self.args.max_length, model, tokenizer)
        masker = Masker(tokenizer, self.args.mlm_probability)
        texts = [row["text"] for row in self.rows]
        evaluation, order, masks = evaluation_features(pieces_of(texts, tokenizer, longest), masker)
        train = None
        if training:
            of_train = [row["text"] for row in self._train.rows]
            train = training_features(pieces_of(of_train, tokenizer, longest))
        return TaskData(
            examples=self.rows,
            evaluation=evaluation,
            judge=MaskedJudge(masks, order, len(texts), tokenizer),
            signature=signature_of([longest, self.args.mlm_probability, texts]),
            collator=MaskingCollator(masker),
            tokenizer=tokenizer,
            datasets=self.records(training=training),
            train=train,
            preprocess_logits=predicted,
            losses=MaskedLosses(self.args.mlm_probability),
        )

    @classmethod
    def scores(cls, args: Any, answers: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """See `Task.scores` and `text_scores`."""
        return {"accuracy": text_scores(answers, len(cls(args).rows))}

    @classmethod
    def score_file(cls, args: Any, path: str) -> dict[str, Any]:
        """See `Task.score_file`: number of a text, from 0 on, to its masked tokens as `MaskedJudge` has them."""
        count = len(cls(args).rows)
        answers = check_answers(read_answers(Path(path)), count, path)
        return {**scores_of(answers), "rows": count, "missing": 0}

    def breakdown(self, answers: Mapping[str, Any], data: TaskData) -> dict[str, Any]:
        """By the number of words of the text: the accuracy of the masked tokens of all texts of a group."""

        def score(numbers: list[int]) -> dict[str, float]:
            part = {str(i): answers.get(str(i), []) for i in numbers}
            return {"accuracy": scores_of(part)["accuracy"]} if any(part.values()) else {}

        return {"words": by_words([row["text"] for row in data.examples], TEXT_WORDS, score)}

    def disagreements(
        self, student: Mapping[str, Any], teacher: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """See `Task.disagreements`: another token is predicted; shown is the first one of a text."""
        return disagreements(student, teacher, data.examples)

    @classmethod
    def asked(cls, source: str | None, options: Any, refuse: Refuse) -> Iterator[Line]:
        """See `Task.asked` and `itrd_nlp.tasks.masked_lm.prediction.read_asked`."""
        return read_asked(source, options, refuse)

    @classmethod
    def answerer(cls, model: str, options: Any, running: Running) -> Answerer:
        """See `Task.answerer`."""
        return MaskFiller(model, options, running)
