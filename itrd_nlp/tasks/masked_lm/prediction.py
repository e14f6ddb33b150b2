"""Texts with masks from a file or a pipe, filled one after the other in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.models.lengths import longest_input
from itrd_nlp.models.masked_lm import AutoModelForMaskedLM
from itrd_nlp.models.options import Running
from itrd_nlp.tasks.by_length import answer_by_length, in_batches, length_of_line
from itrd_nlp.tasks.lengths import PADDED_TO, prepare_reading
from itrd_nlp.tasks.lines import Line, Refuse, check_text, read_lines, text_or_file
from itrd_nlp.tasks.masked_lm.arguments import MaskArguments
from itrd_nlp.tasks.network import answering_network, logits_of

MOST = 512  # tokens. The pieces of the training are shorter, so that more of them share a batch.


def read_asked(source: str | None, options: MaskArguments, refuse: Refuse) -> Iterator[Line]:
    """The texts to fill.

    Args:
        source: JSON lines with ``text``; ``-`` for stdin; None: the text of `options`.
        options: the text.
        refuse: takes the sentence about a line that is no object.

    Raises:
        UserError: the source cannot be read, or there are two.
    """
    given = text_or_file(source, {"text": options.text})
    return given or read_lines(str(source), needs='"text"', refuse=refuse)


class MaskFiller:
    """A model that fills masks, see `itrd_nlp.tasks.task.Answerer`.

    Args:
        model: folder, ONNX folder or model id.
        options: how many tokens are shown, and how long a text may be.
        running: how the model is loaded and runs.

    Raises:
        UserError: the model cannot be used.
    """

    def __init__(self, model: str, options: MaskArguments, running: Running) -> None:
        self.network, self.tokenizer = answering_network(model, AutoModelForMaskedLM, running)
        check_mask(self.tokenizer)
        self.batch_size, self.top_k = running.batch_size, options.top_k
        positions = (longest_input(self.network) or MOST) // PADDED_TO * PADDED_TO
        most = options.max_length or min(MOST, positions)
        self.longest = prepare_reading(most, self.network, self.tokenizer)

    def check(self, line: Line) -> None:
        """Refuse a line without a mask, or with one that the model does not read.

        Raises:
            UserError: names the line and the mask token.
        """
        check_text(line.row, "text", line.where)
        mask = self.tokenizer.mask_token
        wanted = line.row["text"].count(mask)
        if not wanted:
            raise UserError(
                f'{line.where}: "text" has no {mask}, which is what the model fills; write it where a token is missing.'
            )
        ids = self._encoded([line.row["text"]])["input_ids"]
        found = int(ids.eq(self.tokenizer.mask_token_id).sum())
        if found < wanted:
            raise UserError(
                f"{line.where}: a {mask} stands behind the first {self.longest} tokens, which are all that is read."
            )

    def answer(self, lines: Iterator[Line]) -> Iterator[dict[str, Any]]:
        """The fields of each line and what was found.

        Returns:
            ``predictions``: for each mask a list with ``token``, as the vocabulary spells it, and ``score``, its
            probability, the likeliest first.
        """
        return answer_by_length(lines, length_of_line, self._answer_all, self.batch_size)

    def _answer_all(self, lines: list[Line]) -> Iterator[dict[str, Any]]:
        for batch in in_batches(lines, self.batch_size):
            encoded = self._encoded([line.row["text"] for line in batch])
            logits = logits_of(self.network, encoded)
            masked = encoded["input_ids"].eq(self.tokenizer.mask_token_id)
            for line, of_text, held in zip(batch, logits, masked, strict=True):
                yield line.row | {"predictions": [self._likeliest(one) for one in of_text[held]]}

    def _encoded(self, texts: list[str]) -> Any:
        return self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )

    def _likeliest(self, logits: Tensor) -> list[dict[str, Any]]:
        known = logits.softmax(-1)[: len(self.tokenizer)]  # there may be more logits than tokens
        scores, ids = torch.topk(known, min(self.top_k, len(known)))
        tokens = self.tokenizer.convert_ids_to_tokens(ids.tolist())
        return [
            {"token": token, "score": score}
            for token, score in zip(tokens, scores.tolist(), strict=True)
        ]


def check_mask(tokenizer: Any) -> None:
    """Refuse a tokenizer without a mask token.

    Raises:
        UserError: names its class.
    """
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"{type(tokenizer).__name__} of this model has no mask token, so that no token can be masked; take a model "
            "that was trained as a masked LM."
        )
