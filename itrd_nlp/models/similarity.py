"""Measures of how similar the hidden states of a student and its teacher are, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.generic import find_labels

from itrd_nlp.errors import UserError
from itrd_nlp.losses.correlation import STD_FLOOR
from itrd_nlp.models.encode import encode
from itrd_nlp.models.modes import evaluating

_find_labels: Callable[[type], list[str]] = find_labels


def layer_similarity(
    student: PreTrainedModel, teacher: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]
) -> dict[str, Any]:
    """Compare every layer of a student with every layer of its teacher on the same tokens.

    The function computes two measures between 0 and 1 on the features of all tokens that are no padding:

    - Linear CKA (Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, section 3) is
      ``||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F)`` of the centred features. Rotating or scaling either side does not change
      it.
    - The correlation is the mean over ``i`` of the absolute correlation of feature ``i`` of the student with feature
      ``i`` of the teacher. The correlation loss maximises it after a projection, which may change a sign. A constant
      feature counts as 0.

    Only float64 sums over the tokens stay in memory. They hold ``(N + 1) (M + 1) d_s d_t`` numbers, and some more. A
    student of 6 layers, a teacher of 12 layers and 768 features take 0.5 GB; see `similarity_bytes`.

    Args:
        student: an encoder of ``N`` layers, on any device.
        teacher: an encoder of ``M`` layers, on the same device.
        batches: inputs of both models. Each batch has ``input_ids`` and ``attention_mask``; labels are left out. About
            10,000 tokens determine two decimals.

    Returns:
        A dictionary. ``tokens`` is the number of tokens that are no padding. ``cka`` has ``N + 1`` rows of ``M + 1``
        values: row ``i`` belongs to student layer ``i``, column ``j`` to teacher layer ``j``, and layer 0 is the
        embeddings. ``correlation`` has the same shape, and exists only if both models have the same width.

    Raises:
        UserError: a batch has no ``attention_mask``, or all batches together hold fewer than 2 tokens.

    Example:
        >>> similarity = layer_similarity(student, teacher, DataLoader(rows, 16, collate_fn=collate))
        >>> similarity["cka"][3][12]  # layer 3 of the student, layer 12 of the teacher
        0.93
    """
    moments = None
    with torch.inference_mode(), evaluating(student), evaluating(teacher):
        for batch in batches:
            features_s = _features(student, batch)
            features_t = _features(teacher, batch)
            if moments is None:
                moments = _Moments(features_s, features_t)
            moments.add(features_s, features_t)
    if moments is None or moments.tokens < 2:
        raise UserError(
            f"batches hold {moments.tokens if moments else 0} tokens, but similarity needs at least 2."
        )
    return moments.similarity()


def similarity_bytes(student: PreTrainedModel, teacher: PreTrainedModel) -> int:
    """Return how many bytes of memory the sums of `layer_similarity` take on the device of the models.

    These are the products of the features of each layer with those of each layer of the other model, and with each
    other: ``8 ((N + 1) (M + 1) d_s d_t + (N + 1) d_s^2 + (M + 1) d_t^2)``.

    Args:
        student: an encoder of ``N`` layers and width ``d_s``.
        teacher: an encoder of ``M`` layers and width ``d_t``.
    """
    (n, wide_s), (m, wide_t) = (
        (model.config.num_hidden_layers + 1, model.config.hidden_size)
        for model in (student, teacher)
    )
    numbers: int = n * m * wide_s * wide_t + n * wide_s**2 + m * wide_t**2
    return 8 * numbers


class _Moments:
    """Sums over tokens of the features of all layers and of their products.

    The features are shifted by the means of the first batch. The sums of the deviations then lose no precision.

    Args:
        student: the student's features of the first batch, ``(N + 1, n, d_s)``.
        teacher: the teacher's features of the first batch, ``(M + 1, n, d_t)``.
    """

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        self.tokens = 0
        self.shift = [x.mean(dim=1, keepdim=True) for x in (student, teacher)]
        self.sums = [torch.zeros_like(shift[:, 0]) for shift in self.shift]
        self.within = [x.new_zeros(len(x), x.shape[2], x.shape[2]) for x in (student, teacher)]
        self.between = student.new_zeros(
            len(student), len(teacher), student.shape[2], teacher.shape[2]
        )

    def add(self, student: Tensor, teacher: Tensor) -> None:
        shifted = [x - shift for x, shift in zip((student, teacher), self.shift, strict=True)]
        self.tokens += student.shape[1]
        for x, total, within in zip(shifted, self.sums, self.within, strict=True):
            total += x.sum(dim=1)
            within.baddbmm_(x.mT, x)
        for i, x in enumerate(shifted[0]):
            self.between[i].baddbmm_(x.T.expand(len(teacher), -1, -1), shifted[1])

    def similarity(self) -> dict[str, Any]:
        sum_s, sum_t = self.sums
        within_s, within_t = (
            within - torch.einsum("ip,iq->ipq", total, total) / self.tokens
            for within, total in zip(self.within, self.sums, strict=True)
        )
        floor = self.tokens * STD_FLOOR**2

        def spread(x: Tensor) -> Tensor:
            return torch.where(x > floor, x, torch.inf)  # dividing by infinity gives 0

        norm_s, norm_t = (spread(x.flatten(1).norm(dim=1)) for x in (within_s, within_t))
        scatter_s, scatter_t = (spread(x.diagonal(dim1=1, dim2=2)) for x in (within_s, within_t))
        cka, correlation = [], []
        for i in range(len(sum_s)):
            between = self.between[i] - torch.einsum("p,jq->jpq", sum_s[i], sum_t) / self.tokens
            cka.append(between.flatten(1).square().sum(dim=1) / (norm_s[i] * norm_t))
            if between.shape[1] == between.shape[2]:
                products = between.diagonal(dim1=1, dim2=2).abs()
                correlation.append((products / (scatter_s[i] * scatter_t).sqrt()).mean(dim=1))
        result: dict[str, Any] = {"tokens": self.tokens, "cka": _rows(cka)}
        if correlation:
            result["correlation"] = _rows(correlation)
        return result


def _rows(values: list[Tensor]) -> list[list[float]]:
    # Rounding may put a perfect match above 1.
    rows: list[list[float]] = torch.stack(values).clamp(max=1).tolist()
    return rows


def _features(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the hidden states of all layers at the tokens that are no padding, as float64 ``(layers + 1, n, d)``."""
    if "attention_mask" not in batch:
        raise UserError(
            "A batch holds no attention_mask, but similarity needs it to leave out padding."
        )
    labels = set(_find_labels(type(model)))
    inputs = {k: v.to(model.device) for k, v in batch.items() if k not in labels}
    layers = range(model.config.num_hidden_layers + 1)
    hidden_states = encode(model, inputs, layers)[1].hidden_states
    mask = inputs["attention_mask"].bool()
    # MPS has no float64.
    device = torch.device("cpu") if mask.device.type == "mps" else mask.device
    return torch.stack([hidden_states[layer][mask] for layer in layers]).to(device, torch.float64)
