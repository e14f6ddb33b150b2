"""Losses between the scores of ranked lists: of the passages of a query, for example.

All of them take scores as lists of one length ``(Q, P)`` and a mask of the entries that lists really have.
They are computed in float32, or in float64 for float64 scores.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import at_least_float32, shape
from itrd_nlp.losses.logits import kd_loss


def as_lists(scores: Tensor, mask: Tensor) -> Tensor:
    """Put the scores of single entries into the rows of their lists.

    It reads no number from a GPU, forward and backward, so that it need not wait for one.

    Args:
        scores: ``(N,)``, list after list.
        mask: ``(Q, P)``, bool, true where a list has an entry; ``N`` of them are true.

    Returns:
        ``(Q, P)``, 0 where a list has no entry.

    Raises:
        UserError: the scores are not flat, or on a CPU there are more or fewer of them than entries.
    """
    if scores.dim() != 1 or (mask.device.type == "cpu" and len(scores) != int(mask.sum())):
        raise UserError(
            f"scores have the shape {shape(scores)}, but the lists {shape(mask)} have {int(mask.sum())} entries."
        )
    if len(scores) == 0:
        return scores.new_zeros(mask.shape)
    # The gradient of masked_scatter would read how many entries there are. An entry's place is their number before it.
    places = (mask.flatten().cumsum(0) - 1).clamp(0, len(scores) - 1)
    return torch.where(mask, scores.index_select(0, places).view(mask.shape), 0.0)


def list_kd_loss(
    student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """Compute ``T² KL(teacher || student)`` of the softmax over each list (ListNet, Cao et al. 2007, with top one).

    A list of one entry has the loss 0.

    Args:
        student: scores ``(Q, P)``.
        teacher: scores ``(Q, P)``. They get no gradient.
        mask: ``(Q, P)``, bool, true where a list has an entry.
        temperature: ``T``, above 0. Default: 1.

    Returns:
        A scalar in nats, the mean over the lists.

    Raises:
        UserError: see `kd_loss`.

    Example:
        >>> list_kd_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2).bool())
        tensor(0.)
    """
    return kd_loss(student, teacher, temperature=temperature, class_mask=mask)


def margin_mse_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean of ``((s_i - s_j) - (t_i - t_j))²`` over all pairs of entries of one list.

    This is MarginMSE (Hofstätter et al. 2020, equation 2) over every pair, so that no entry needs a label.

    Args:
        student: scores ``(Q, P)``.
        teacher: scores ``(Q, P)``. They get no gradient.
        mask: ``(Q, P)``, bool, true where a list has an entry.

    Returns:
        A scalar, the mean over the pairs of all lists. It is 0 if no list has two entries.

    Example:
        >>> margin_mse_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]]), torch.ones(1, 2).bool())
        tensor(4.)
    """
    difference = torch.where(mask, at_least_float32(student - teacher.detach()), 0.0)
    pairs = (mask.unsqueeze(2) & mask.unsqueeze(1)).triu(1)
    margins = difference.unsqueeze(2) - difference.unsqueeze(1)
    return torch.where(pairs, margins.square(), 0.0).sum() / pairs.sum().clamp(min=1)


def list_label_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Compute the cross entropy of the softmax over each list with its labels, divided by their sum.

    It is the softmax cross entropy of Bruch et al. 2019, equation 3. A list whose labels are all 0 does not count.

    Args:
        scores: ``(Q, P)``.
        labels: ``(Q, P)``, at least 0; the larger, the more relevant.
        mask: ``(Q, P)``, bool, true where a list has an entry.

    Returns:
        A scalar in nats, the mean over the lists that count. It is 0 if no list counts.
    """
    scores = at_least_float32(scores)
    labels = torch.where(mask, labels.to(scores.dtype), 0.0)
    total = labels.sum(dim=1)
    log_p = torch.where(mask, scores, torch.finfo(scores.dtype).min).log_softmax(dim=1)
    losses = -(torch.where(mask, labels * log_p, 0.0)).sum(dim=1) / total.clamp(min=1e-6)
    counts = ~(total <= 0)  # a label that is NaN counts, so that it stays visible
    return torch.where(counts, losses, 0.0).sum() / counts.sum().clamp(min=1)


def pair_label_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute the binary cross entropy of single entries, each with the probability sigmoid(score).

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``, from 0 to 1.

    Returns:
        A scalar in nats, the mean over the entries.
    """
    scores = at_least_float32(scores)
    return F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype))
