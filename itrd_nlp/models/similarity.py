"""How alike the hidden states of a student and its teacher are, layer by layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import find_labels

from itrd_nlp.errors import UserError
from itrd_nlp.losses.correlation import STD_FLOOR
from itrd_nlp.models.encode import encode


def layer_similarity(
    student: PreTrainedModel, teacher: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]
) -> dict[str, Any]:
    """Compare every layer of a student with every layer of its teacher on the same tokens.

    Two measures between 0 and 1. Linear CKA (Kornblith et al., "Similarity of Neural Network Representations
    Revisited", ICML 2019, section 3) is ``||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F)`` of the centred features of all
    tokens: it does not change when either side is rotated or scaled. The correlation is that of feature ``i`` of
    the student with feature ``i`` of the teacher, as an absolute value and averaged over the features: what the
    correlation loss asks for, before its projection, which may turn a sign. A feature that is constant counts 0.

    Only sums over the tokens are kept, in float64: ``(N + 1) (M + 1) d_s d_t`` numbers, 0.4 GB for 6 layers of a
    student, 12 of a teacher and 768 features.

    Args:
        student: An encoder of ``N`` layers, on any device.
        teacher: An encoder of ``M`` layers, on the same device.
        batches: Inputs of both, each with ``input_ids`` and ``attention_mask``. Some 10,000 tokens give two decimals.
            Labels are not read.

    Returns:
        ``tokens``: how many were not padding. ``cka``: ``N + 1`` rows of ``M + 1`` values, row ``i`` of student layer
        ``i``, column ``j`` of teacher layer ``j``, 0 being the embeddings. ``correlation``: the same shape, only
        where both models have the same width.

    Raises:
        UserError: a batch has no ``attention_mask``, or all of them together hold fewer than 2 tokens.

    Example:
        >>> similarity = layer_similarity(student, teacher, DataLoader(rows, 16, collate_fn=collate))
        >>> similarity["cka"][3][12]  # layer 3 of the student, layer 12 of the teacher
        0.93
    """
    moments = None
    with torch.inference_mode(), _evaluation(student), _evaluation(teacher):
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


class _Moments:
    """Sums over tokens of the features of all layers and of their products.

    Features are shifted by the means of the first batch: the sums are then about deviations, and nothing cancels.

    Args:
        student: ``(N + 1, n, d_s)``, features of the first batch.
        teacher: ``(M + 1, n, d_t)``.
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
            return torch.where(x > floor, x, torch.inf)  # what is divided by it is 0 then

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
    rows: list[list[float]] = torch.stack(values).clamp(max=1).tolist()  # without a rounding above
    return rows


def _features(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """Hidden states of all layers at the tokens that are not padding, as ``(layers + 1, n, d)`` in float64."""
    if "attention_mask" not in batch:
        raise UserError("A batch holds no attention_mask, but it says which tokens are padding.")
    labels = set(find_labels(type(model)))
    inputs = {k: v.to(model.device) for k, v in batch.items() if k not in labels}
    layers = range(model.config.num_hidden_layers + 1)
    hidden_states = encode(model, inputs, layers)[1].hidden_states
    mask = inputs["attention_mask"].bool()
    # MPS has no float64.
    device = torch.device("cpu") if mask.device.type == "mps" else mask.device
    return torch.stack([hidden_states[layer][mask] for layer in layers]).to(device, torch.float64)


@contextlib.contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards for every module the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
