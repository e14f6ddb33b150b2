"""How near the last hidden states of an encoder are to those of another one, its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from transformers import EvalPrediction, PreTrainedModel

from itrd_nlp.errors import UserError
from itrd_nlp.models.encode import own_inputs
from itrd_nlp.models.modes import evaluating
from itrd_nlp.tasks.answers import Answers, check_numbers
from itrd_nlp.tasks.masked_lm.features import batches
from itrd_nlp.tasks.network import first_output

TOKENS = 16
"""Tokens of a piece whose states are compared. All of them would fill the memory."""
_AT_ONCE = 32
_DIGITS = 6


def spread_states(logits: Any, labels: Tensor) -> Tensor:
    """``preprocess_logits_for_metrics`` of a trainer: the states of `TOKENS` tokens, spread over each piece.

    Args:
        logits: states ``(B, L, d)``, padded on the right.
        labels: number of tokens of each piece ``(B,)``.

    Returns:
        ``(B, TOKENS, d)`` in float32. A shorter piece has some tokens more than once.
    """
    states = first_output(logits).float()
    steps = torch.linspace(0, 1, TOKENS, device=states.device)
    places = (steps * (labels[:, None].to(states.device) - 1)).round().long()
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))


def reference_states(
    model: PreTrainedModel, features: Dataset, collator: Callable[..., Mapping[str, Tensor]]
) -> NDArray[np.float32]:
    """The states of a model for all features, as `spread_states` chooses them: ``(N, TOKENS, d)``."""
    found = []
    with torch.inference_mode(), evaluating(model):
        for rows in batches(features, _AT_ONCE):
            batch = {name: value.to(model.device) for name, value in collator(rows).items()}
            labels = batch.pop("labels")
            output = model(**own_inputs(model, batch))
            found.append(spread_states(output["logits"], labels).cpu().numpy())
    return np.concatenate(found)


def check_widths(model: PreTrainedModel, reference: PreTrainedModel) -> None:
    """Refuse a model whose states are of another width than those of its reference, before anything is trained.

    Raises:
        UserError: names both widths.
    """
    ours, theirs = (getattr(m.config, "hidden_size", None) for m in (model, reference))
    if ours is not None and theirs is not None and ours != theirs:
        _refuse_widths(ours, theirs)


def _refuse_widths(ours: int, theirs: int) -> NoReturn:
    raise UserError(
        f"the states of the model have {ours} numbers and those of the reference {theirs}, so that there is no cosine "
        "between them; a narrower student is judged by a task that it is fine-tuned for."
    )


class LikenessJudge:
    """``compute_metrics`` of a trainer: the mean cosine with the states of a reference, in percent.

    It is the mean over the compared tokens of a text, and then over the texts. A text of which the tokenizer makes
    nothing has no state to compare. It counts 0, as an example without an answer does in every task.

    Args:
        reference: makes the true states ``(N, TOKENS, d)``. It is called once, when the first model is judged.
        texts: number of the text that each feature is of.
        count: number of the texts.

    Attributes:
        predictions: number of a text, from 0 on, to its mean cosine.
    """

    def __init__(
        self,
        reference: Callable[[], NDArray[np.float32]],
        texts: Sequence[int],
        count: int,
    ) -> None:
        self._make, self._true = reference, None
        self.texts, self.count = np.asarray(texts), count
        self.predictions: Answers = {}

    _true: NDArray[np.float32] | None

    def __call__(self, outputs: EvalPrediction) -> dict[str, float]:
        if self._true is None:
            self._true = self._make()
        found = np.asarray(outputs.predictions, dtype=np.float32)
        if found.shape != self._true.shape:
            _refuse_widths(found.shape[-1], self._true.shape[-1])
        bad = self.texts[np.isnan(found).any(axis=(1, 2))]
        check_numbers(len(set(bad.tolist())), self.count, "texts", "states")
        cosines = _cosines(found, self._true).mean(axis=1)
        sums = np.bincount(self.texts, weights=cosines, minlength=self.count)
        pieces = np.bincount(self.texts, minlength=self.count)
        means = sums / np.maximum(pieces, 1)
        self.predictions = {str(i): round(float(mean), _DIGITS) for i, mean in enumerate(means)}
        return {"cosine": 100 * float(np.mean(list(self.predictions.values())))}


def _cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(N, TOKENS)``; 0 where a state is 0."""
    norms = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    cosines: NDArray[np.float32] = (ours * theirs).sum(axis=-1) / np.maximum(norms, 1e-12)
    return cosines.clip(-1, 1)
