"""Losses between vectors of texts, all of length 1.

Similarities are computed in float32, or in float64 for float64 vectors, whatever the autocast: in bf16 a cosine times
`SCALE` has steps of 0.125.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import at_least_float32, shape
from itrd_nlp.losses.logits import kd_loss

SCALE = 20.0
"""Factor of cosines before a softmax, as in sentence-transformers."""


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean of ``1 - cos(student, teacher)`` over the texts.

    Args:
        student: ``(n, d)``, of length 1.
        teacher: ``(n, d)``, of length 1. They get no gradient.

    Returns:
        A scalar from 0 to 2.

    Raises:
        UserError: the shapes differ.
    """
    _check_width(student, teacher)
    return 1 - (student * teacher.detach()).sum(dim=-1).mean()


def vector_mse_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean squared difference of all numbers, as sentence-transformers' ``MSELoss`` does.

    It is ``2 / d`` of `cosine_loss`, because the vectors have the length 1.

    Args:
        student: ``(n, d)``.
        teacher: ``(n, d)``. They get no gradient.

    Returns:
        A scalar.

    Raises:
        UserError: the shapes differ.
    """
    _check_width(student, teacher)
    return F.mse_loss(student, teacher.detach())


def similarity_kd_loss(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Compute ``T² KL(teacher || student)`` of the softmax over the similarities of each text with all others.

    The similarities are cosines times `SCALE`. The widths of the vectors may differ.

    Args:
        student: ``(n, d_s)``, of length 1.
        teacher: ``(n, d_t)``, of length 1. They get no gradient.
        temperature: ``T``, above 0. Default: 1.

    Returns:
        A scalar in nats, the mean over the texts. It is 0 of a single text.
    """
    others = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    ours, theirs = (_similarities(z, z) for z in (student, teacher.detach()))
    return kd_loss(ours, theirs, temperature=temperature, class_mask=others)


def in_batch_loss(queries: Tensor, passages: Tensor, passage_ids: Tensor) -> Tensor:
    """Compute the cross entropy of each query's own passage among all passages of the batch.

    This is ``MultipleNegativesRankingLoss`` of sentence-transformers (Henderson et al. 2017, section 4). A passage that
    another query of the batch has, too, is no negative of it.

    Args:
        queries: ``(n, d)``, of length 1.
        passages: ``(n, d)``, of length 1.
        passage_ids: ``(n,)``, equal for equal passages.

    Returns:
        A scalar in nats, the mean over the queries.
    """
    own = torch.arange(len(queries), device=queries.device)
    same = (passage_ids.unsqueeze(0) == passage_ids.unsqueeze(1)).fill_diagonal_(False)
    scores = _similarities(queries, passages)
    return F.cross_entropy(scores.masked_fill(same, torch.finfo(scores.dtype).min), own)


def cosine_label_loss(first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean squared difference of cosines and labels, as ``CosineSimilarityLoss`` does.

    Args:
        first: ``(n, d)``, of length 1.
        second: ``(n, d)``, of length 1.
        labels: ``(n,)``, the true similarity, from -1 to 1.

    Returns:
        A scalar.
    """
    return F.mse_loss((first * second).sum(dim=-1), labels.to(first.dtype))


def _similarities(first: Tensor, second: Tensor) -> Tensor:
    with torch.autocast(first.device.type, enabled=False):
        return SCALE * at_least_float32(first) @ at_least_float32(second).T


def _check_width(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise UserError(
            f"vectors of the student have the shape {shape(student)} and of the teacher {shape(teacher)}; give a "
            "student of the teacher's width, or set kd_loss to similarities."
        )
