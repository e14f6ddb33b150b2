"""Predicted tokens of a model: its scores, in groups of texts, and beside those of its teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.tasks.answers import Answers, answers_to, check_numbers
from itrd_nlp.tasks.disagreements import count_disagreements, short
from itrd_nlp.tasks.lines import Row, finite
from itrd_nlp.tasks.masked_lm.features import Masks
from itrd_nlp.tasks.sums import Sums, ratio

TEXT_WORDS = (25, 100, 200)
"""The most words of the groups of texts."""
_DIGITS = 6


class MaskedJudge:
    """``compute_metrics`` of a trainer: the accuracy of masked tokens in percent, and the pseudo-perplexity.

    Args:
        masks: of the pieces of all texts.
        order: of each feature its place among the pieces.
        texts: number of the texts.
        tokenizer: names the tokens.

    Attributes:
        predictions: number of a text, from 0 on, to a list for each of its masked tokens: the true one, the predicted
            one, and the cross entropy in nats.

    Raises:
        UserError: (when it judges) the model gives logits with NaN.
    """

    def __init__(
        self,
        masks: Sequence[Masks],
        order: Sequence[int],
        texts: int,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.masks, self.order, self.texts, self.tokenizer = masks, order, texts, tokenizer
        self.predictions: Answers = {}

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        found = np.asarray(outputs.predictions)
        place = {piece: feature for feature, piece in enumerate(self.order)}
        answers: dict[str, list[Any]] = {str(i): [] for i in range(self.texts)}
        named: Any = self.tokenizer.convert_ids_to_tokens
        for piece, masks in enumerate(self.masks):
            of_piece = found[place[piece], masks.positions]
            true, said = named(masks.true), named(of_piece[:, 0].astype(int).tolist())
            losses = [round(float(loss), _DIGITS) for loss in of_piece[:, 1]]
            answers[str(masks.text)] += map(list, zip(true, said, losses, strict=True))
        given = [loss for tokens in answers.values() for _, _, loss in tokens]
        check_numbers(sum(map(math.isnan, given)), len(given), "masked tokens", "logits")
        self.predictions = answers
        return scores_of(answers)


def scores_of(answers: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy in percent and pseudo-perplexity of all masked tokens.

    The pseudo-perplexity is ``exp`` of the mean cross entropy in nats over the masked tokens (of each the negative
    logarithm of the probability of the true token, where the model sees the other masks, too, as masks).

    Args:
        answers: as `MaskedJudge.predictions`, with one masked token at least.
    """
    tokens = [token for of_text in answers.values() for token in of_text]
    right = sum(true == said for true, said, _ in tokens)
    mean = math.fsum(loss for _, _, loss in tokens) / len(tokens)
    # A model without any idea may be wrong by so much that no float holds it.
    return {"accuracy": 100 * right / len(tokens), "perplexity": math.exp(min(mean, 700.0))}


def text_scores(answers: Mapping[str, Any], count: int) -> NDArray[np.float64]:
    """Of each text the accuracy plus its influence, so that their mean is the accuracy over all masked tokens.

    The accuracy is a quotient of sums over the texts. A text with more masked tokens than the mean counts more, and its
    number may be above 1 and below 0. See `itrd_nlp.tasks.sums.influences`.

    Args:
        answers: as `MaskedJudge.predictions`.
        count: number of texts.
    """
    of_texts = [answers.get(str(i), []) for i in range(count)]
    sums = [(sum(true == said for true, said, _ in tokens), len(tokens)) for tokens in of_texts]
    return Sums(np.array(sums, dtype=np.float64), lambda s: ratio(s[..., 0], s[..., 1])).by_row()


def check_answers(answers: Mapping[str, Any], count: int, where: str) -> Answers:
    """Refuse answers that are no predictions of masked tokens, or not those of all texts.

    Nobody but the model knows which tokens of a text are masked, so a text without an answer cannot count as wrong.

    Args:
        answers: number of a text, from 0 on, to its masked tokens.
        count: number of texts.
        where: name of the file, for the sentence.

    Raises:
        UserError: names the text.
    """
    kept = answers_to(answers, count, where, "texts")
    for name, tokens in kept.items():
        if not (isinstance(tokens, list) and all(map(_is_prediction, tokens))):
            raise UserError(
                f"{where}: the answer to text {name} must be a list with [true token, predicted token, cross entropy] "
                "for each masked token."
            )
    if len(kept) < count:
        first = next(i for i in range(count) if str(i) not in kept)
        raise UserError(
            f"{where}: {count - len(kept)} of {count} texts have no answer, the first of them text {first} (from 0 "
            "on), but the score is one of the masked tokens of all texts."
        )
    if not any(kept.values()):
        raise UserError(f"{where}: no text has a masked token.")
    return kept


def _is_prediction(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 3):
        return False
    true, said, loss = value
    number = finite(loss)
    return isinstance(true, str) and isinstance(said, str) and number is not None and number >= 0


def disagreements(
    student: Mapping[str, Any], teacher: Mapping[str, Any], rows: Sequence[Row]
) -> dict[str, Any]:
    """The texts in which two models predict different tokens, each by the first such token.

    Returns:
        See `itrd_nlp.publish.report.data.Disagreements`.
    """
    differing = []
    for i, row in enumerate(rows):
        pairs = zip(student.get(str(i), []), teacher.get(str(i), []), strict=False)
        for number, (ours, theirs) in enumerate(pairs, start=1):
            if ours[1] != theirs[1]:
                differing.append((row, number, ours, theirs))
                break

    def shown(case: Any) -> dict[str, Any]:
        row, number, ours, theirs = case
        return {
            "question": f"masked token {number} of the text",
            "context": short(row["text"]),
            "references": [{"text": ours[0]}],
            "teacher": {"text": theirs[1], "exact_match": theirs[1] == theirs[0]},
            "student": {"text": ours[1], "exact_match": ours[1] == ours[0]},
        }

    return count_disagreements(
        differing,
        len(rows),
        right=lambda case: (case[3][1] == case[3][0], case[2][1] == case[2][0]),
        shown=shown,
    )
