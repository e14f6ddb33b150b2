"""Distillation of logits with a temperature (Hinton et al. 2015).

`kd_loss` is for one of several classes and `span_kd_loss` for span heads. `bernoulli_kd_loss` is for labels that may
hold together, and `value_kd_loss` for numbers, of which a softmax says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from itrd_nlp.errors import UserError
from itrd_nlp.losses._samples import at_least_float32, shape


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    class_mask: Tensor | None = None,
    sample_mask: Tensor | None = None,
    num_items: Tensor | int | None = None,
) -> Tensor:
    """Compute the loss of knowledge distillation: ``T² KL(teacher || student)`` of softmax(logits / T), in nats.

    The softmax is over the last dimension. The factor ``T²`` keeps the gradient at about the same size for every
    temperature (Hinton et al. 2015, section 2). The loss is computed in float32, or in float64 for float64 inputs.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: logits of the same shape. They get no gradient.
        temperature: ``T``, above 0. Default: 1.
        class_mask: a mask that broadcasts to ``(..., C)``, bool or 0/1, true where a class belongs to the softmax.
            Masked logits may hold any value, even NaN. Default: every class belongs to it.
        sample_mask: ``(...)``, bool or 0/1, true where a row counts. The logits of the other rows may hold any value.
            Default: every row counts.
        num_items: divisor of the sum over the rows, at least 1. Under gradient accumulation, pass the number of rows
            in all micro-batches; the losses then add up to the mean. Default: the number of rows that count.

    Returns:
        A scalar, the mean over the rows. It is 0 if no row counts.

    Raises:
        UserError: ``temperature`` or ``num_items`` is not positive, or the shapes do not fit.

    Example:
        >>> student, teacher = torch.randn(32, 3, requires_grad=True), torch.randn(32, 3)
        >>> kd_loss(student, teacher, temperature=2.0).backward()
    """
    _check_temperature(temperature)
    _check_shapes(student_logits, teacher_logits)
    if isinstance(num_items, int) and num_items < 1:
        raise UserError(f"num_items is {num_items}; it must be at least 1.")
    kept = _kept(student_logits, class_mask, sample_mask)
    log_p = _log_softmax(teacher_logits.detach(), temperature, kept)
    log_q = _log_softmax(student_logits, temperature, kept)
    total = (log_p.exp() * (log_p - log_q)).sum() * temperature**2
    if num_items is not None:
        return total / num_items
    if sample_mask is not None:
        return total / sample_mask.bool().sum().clamp(min=1)
    return total / max(1, math.prod(student_logits.shape[:-1]))


def bernoulli_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    sample_mask: Tensor | None = None,
) -> Tensor:
    """Compute ``T² KL(teacher || student)`` of independent labels, each with the probability sigmoid(logit / T).

    It is the mean over the labels, as the task loss of transformers for several labels is.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: logits of the same shape. They get no gradient.
        temperature: ``T``, above 0. Default: 1.
        sample_mask: ``(...)``, bool or 0/1, true where a row counts. Default: every row counts.

    Returns:
        A scalar in nats, the mean over rows and labels. It is 0 if no row counts.

    Raises:
        UserError: ``temperature`` is not positive, or the shapes do not fit.

    Example:
        >>> bernoulli_kd_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=2.0)
        tensor(0.)
    """
    _check_temperature(temperature)
    _check_shapes(student_logits, teacher_logits)
    student = at_least_float32(student_logits) / temperature
    teacher = at_least_float32(teacher_logits.detach()) / temperature
    p = teacher.sigmoid()
    yes = p * (logsigmoid(teacher) - logsigmoid(student))
    no = (1 - p) * (logsigmoid(-teacher) - logsigmoid(-student))
    return _mean_over_rows(yes + no, sample_mask) * temperature**2


def value_kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, sample_mask: Tensor | None = None
) -> Tensor:
    """Compute the mean squared difference of numbers that a model predicts, as a regression does.

    Args:
        student_logits: ``(..., C)``.
        teacher_logits: numbers of the same shape. They get no gradient.
        sample_mask: ``(...)``, bool or 0/1, true where a row counts. Default: every row counts.

    Returns:
        A scalar, the mean over rows and numbers. It is 0 if no row counts.

    Raises:
        UserError: the shapes do not fit.

    Example:
        >>> value_kd_loss(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
        tensor(4.)
    """
    _check_shapes(student_logits, teacher_logits)
    difference = at_least_float32(student_logits) - at_least_float32(teacher_logits.detach())
    return _mean_over_rows(difference.square(), sample_mask)


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
    """Compute the KD of a span head: the mean of the `kd_loss` of the start and that of the end.

    Args:
        student_start: the student's logits of the start, ``(B, L)``.
        student_end: the student's logits of the end, ``(B, L)``.
        teacher_start: the teacher's logits of the start, ``(B, L)``. They get no gradient.
        teacher_end: the teacher's logits of the end, ``(B, L)``. They get no gradient.
        temperature: ``T``, above 0. Default: 1.
        mask: ``(B, L)``, bool or 0/1, true where a position is no padding. The softmax leaves the padding out.
            Default: every position belongs to the softmax.
        num_items: divisor of the sum over the batch, at least 1. Default: ``B``.

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
    """Return logits whose softmax is the mean of the softmaxes of several models.

    The mean is taken at the temperature ``T`` of the KD: ``softmax(result / T)`` is the arithmetic mean of
    ``softmax(logits / T)``. This mean is one of the targets of Hinton et al. 2015, section 1.

    Args:
        logits: logits ``(..., C)`` of each model. All have one shape, and there is at least one model.
        temperature: ``T``, above 0. Default: 1.
        class_mask: a mask that broadcasts to ``(..., C)``, true where a class belongs to the softmax. The result has
            no meaning where the mask is false. Default: every class belongs to the softmax.

    Returns:
        Logits ``(..., C)`` in float32, or in float64 for float64 inputs. They carry no gradient.

    Raises:
        UserError: ``class_mask`` does not broadcast to the logits.
    """
    first = logits[0]
    kept = _kept(first, class_mask, None)
    log_p = torch.stack([_log_softmax(one.detach(), temperature, kept) for one in logits])
    return temperature * (log_p.logsumexp(dim=0) - math.log(len(logits)))


def mean_bernoulli(logits: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
    """Return logits whose sigmoid at the temperature is the mean of the sigmoids of several models.

    Args:
        logits: logits ``(..., C)`` of each model. All have one shape, and there is at least one model.
        temperature: ``T``, above 0. Default: 1.

    Returns:
        Logits ``(..., C)`` in float32, or in float64 for float64 inputs. They carry no gradient.
    """
    scaled = torch.stack([at_least_float32(one.detach()) / temperature for one in logits])
    log_yes = logsigmoid(scaled).logsumexp(dim=0)
    log_no = logsigmoid(-scaled).logsumexp(dim=0)
    return temperature * (log_yes - log_no)


def _check_temperature(temperature: float) -> None:
    if not (temperature > 0 and math.isfinite(temperature)):
        raise UserError(f"temperature is {temperature}; it must be a number above 0.")


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.ndim < 1 or student.shape != teacher.shape:
        raise UserError(
            f"student logits {shape(student)} and teacher logits {shape(teacher)} must have one shape."
        )


def _check_sample_mask(logits: Tensor, sample_mask: Tensor) -> None:
    rows = logits.shape[:-1]
    if sample_mask.shape != rows:
        raise UserError(
            f"sample_mask has shape {shape(sample_mask)}; logits {shape(logits)} need {tuple(rows)}."
        )


def _mean_over_rows(values: Tensor, sample_mask: Tensor | None) -> Tensor:
    """The mean over the last dimension, and over the rows that count."""
    rows = values.mean(dim=-1)
    if sample_mask is None:
        return rows.sum() / max(1, rows.numel())
    _check_sample_mask(values, sample_mask)
    mask = sample_mask.bool()
    return torch.where(mask, rows, 0).sum() / mask.sum().clamp(min=1)


def _kept(logits: Tensor, class_mask: Tensor | None, sample_mask: Tensor | None) -> Tensor | None:
    """Combine both masks into one that broadcasts to the logits. None means that all logits count."""
    kept = None
    if class_mask is not None:
        try:
            kept = class_mask.bool().expand_as(logits)
        except RuntimeError:
            raise UserError(
                f"class_mask has shape {shape(class_mask)}; it must broadcast to {shape(logits)}."
            ) from None
    if sample_mask is not None:
        _check_sample_mask(logits, sample_mask)
        rows = sample_mask.bool().unsqueeze(-1)
        kept = rows if kept is None else kept & rows
    return kept


def _log_softmax(logits: Tensor, temperature: float, kept: Tensor | None) -> Tensor:
    scaled = at_least_float32(logits) / temperature
    if kept is not None:
        # The lowest finite number instead of -inf, because 0 * (-inf - -inf) is NaN, in the loss
        # and in its gradient.
        scaled = torch.where(kept, scaled, torch.finfo(scaled.dtype).min)
    return scaled.log_softmax(-1)
