"""Distillation of logits: Hinton's KD with a temperature, for classification and for span heads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import shape


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    class_mask: Tensor | None = None,
    sample_mask: Tensor | None = None,
    num_items: Tensor | int | None = None,
) -> Tensor:
    """Knowledge distillation: ``T² KL(teacher || student)`` of softmax(logits / T), in nats.

    The softmax is over the last dimension. The factor ``T²`` keeps the size of the gradient about
    the same for every temperature (Hinton et al. 2015, section 2). Computed in float32 (float64 for
    float64 inputs).

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: The same shape. They get no gradient.
        temperature: T, above 0.
        class_mask: Broadcasts to ``(..., C)``, bool or 0/1, true where a class belongs to the
            softmax.
        sample_mask: ``(...)``, bool or 0/1, true where a row counts. Masked logits of either kind
            may hold anything.
        num_items: What the sum over the rows is divided by. Default: the number of rows that count.
            Under gradient accumulation, give that number for all micro-batches together, and their
            losses add up to the mean.

    Returns:
        A scalar: the mean over the rows, 0 where no row counts.

    Raises:
        UserError: ``temperature`` or ``num_items`` is not positive, or the shapes do not fit.

    Example:
        >>> student, teacher = torch.randn(32, 3, requires_grad=True), torch.randn(32, 3)
        >>> kd_loss(student, teacher, temperature=2.0).backward()
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise UserError(f"temperature is {temperature}; it must be a number above 0.")
    if isinstance(num_items, int) and num_items < 1:
        raise UserError(f"num_items is {num_items}; it must be at least 1.")
    if student_logits.ndim < 1 or student_logits.shape != teacher_logits.shape:
        raise UserError(
            f"student logits {shape(student_logits)} and teacher logits {shape(teacher_logits)} "
            "must have one shape."
        )
    kept = _kept(student_logits, class_mask, sample_mask)
    log_p = _log_softmax(teacher_logits.detach(), temperature, kept)
    log_q = _log_softmax(student_logits, temperature, kept)
    total = (log_p.exp() * (log_p - log_q)).sum() * temperature**2
    if num_items is not None:
        return total / num_items
    if sample_mask is not None:
        return total / sample_mask.bool().sum().clamp(min=1)
    return total / max(1, math.prod(student_logits.shape[:-1]))


def span_kd_loss(
    student_start: Tensor,
    student_end: Tensor,
    teacher_start: Tensor,
    teacher_end: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    num_items: Tensor | int | None = None,
) -> Tensor:
    """KD of a span head: the mean of `kd_loss` of the start and of the end positions.

    Args:
        student_start: Logits ``(B, L)`` of the positions; so are the other three.
        student_end: See above.
        teacher_start: See above. The teacher's logits get no gradient.
        teacher_end: See above.
        temperature: T, above 0.
        mask: ``(B, L)``, bool or 0/1, true for positions that belong to the softmax: not padding.
        num_items: What the sum over the batch is divided by. Default: B.

    Returns:
        A scalar.

    Raises:
        UserError: ``temperature`` or ``num_items`` is not positive, or the shapes do not fit.
    """
    if student_start.ndim != 2:
        raise UserError(
            f"start logits have shape {shape(student_start)}; they must be (batch, length)."
        )
    if mask is not None and mask.shape != student_start.shape:
        raise UserError(
            f"mask has shape {shape(mask)}; the logits {shape(student_start)} need the same shape."
        )
    start = kd_loss(
        student_start, teacher_start, temperature=temperature, class_mask=mask, num_items=num_items
    )
    end = kd_loss(
        student_end, teacher_end, temperature=temperature, class_mask=mask, num_items=num_items
    )
    return (start + end) / 2


def mean_prediction(
    logits: Sequence[Tensor], *, temperature: float = 1.0, class_mask: Tensor | None = None
) -> Tensor:
    """What an ensemble says: logits whose softmax is the mean of the softmaxes of several models.

    The mean is taken at the temperature of the KD, so that ``softmax(result / T)`` is the arithmetic mean of
    ``softmax(logits / T)``, one of the targets of Hinton et al. 2015, section 1.

    Args:
        logits: ``(..., C)`` of each model, all of one shape, at least one.
        temperature: T, above 0.
        class_mask: as in `kd_loss`. What the result is where it is false says nothing.

    Returns:
        ``(..., C)`` in float32 (float64 for float64 inputs), without gradient.
    """
    first = logits[0]
    kept = _kept(first, class_mask, None)
    log_p = torch.stack([_log_softmax(one.detach(), temperature, kept) for one in logits])
    return temperature * (log_p.logsumexp(dim=0) - math.log(len(logits)))


def _kept(logits: Tensor, class_mask: Tensor | None, sample_mask: Tensor | None) -> Tensor | None:
    """Which logits count, as a mask that broadcasts to them; None for all."""
    kept = None
    if class_mask is not None:
        try:
            kept = class_mask.bool().expand_as(logits)
        except RuntimeError:
            raise UserError(
                f"class_mask has shape {shape(class_mask)}; it must broadcast to {shape(logits)}."
            ) from None
    if sample_mask is not None:
        if sample_mask.shape != logits.shape[:-1]:
            raise UserError(
                f"sample_mask has shape {shape(sample_mask)}; logits {shape(logits)} need "
                f"{tuple(logits.shape[:-1])}."
            )
        rows = sample_mask.bool().unsqueeze(-1)
        kept = rows if kept is None else kept & rows
    return kept


def _log_softmax(logits: Tensor, temperature: float, kept: Tensor | None) -> Tensor:
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    if kept is not None:
        # The lowest finite number, not -inf: 0 * (-inf - -inf) would be NaN, here and in the
        # gradient.
        scaled = torch.where(kept, scaled, torch.finfo(scaled.dtype).min)
    return scaled.log_softmax(-1)
