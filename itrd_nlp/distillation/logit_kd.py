"""The KD of logits, by what they mean: classes, labels that may hold together, numbers, or the places of a span."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from itrd_nlp.errors import UserError
from itrd_nlp.losses import bernoulli_kd_loss, kd_loss, span_kd_loss, value_kd_loss
from itrd_nlp.losses.logits import mean_bernoulli, mean_prediction
from itrd_nlp.losses.outputs import EncoderOutput

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""The meaning of logits: one of several classes, labels that may hold together, or numbers."""

LogitLoss = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]
"""The KD of a task's own, of the logits of student and teacher."""


def logit_kd_loss(
    student: EncoderOutput,
    teacher: EncoderOutput,
    mask: Tensor | None,
    problem_type: ProblemType,
    temperature: float,
    own: LogitLoss | None,
) -> Tensor:
    """Return the KD loss of the logits: the task's own, else by what they mean."""
    if own is not None:
        return own(student.logits, teacher.logits)
    if not student.logits:
        raise UserError(
            "the student returns no logits, which w_kd compares with those of the teacher; set w_kd to 0, or give "
            "models with heads."
        )
    for name, value in student.logits.items():
        other = teacher.logits.get(name)
        if other is None or other.shape != value.shape:
            found = "none" if other is None else str(tuple(other.shape))
            raise UserError(
                f"{name} of the student have the shape {tuple(value.shape)} and of the teacher {found}, so that KD "
                "cannot compare them; give models with heads of one kind, or set w_kd to 0."
            )
    if "start_logits" in student.logits:
        return span_kd_loss(
            student.logits["start_logits"],
            student.logits["end_logits"],
            teacher.logits["start_logits"],
            teacher.logits["end_logits"],
            temperature=temperature,
            mask=mask,
        )
    logits, target = (classes_last(one.logits["logits"]) for one in (student, teacher))
    rows = mask if are_of_tokens(student) else None
    if problem_type == "regression":
        return value_kd_loss(logits, target, sample_mask=rows)
    loss = bernoulli_kd_loss if problem_type == "multi_label_classification" else kd_loss
    return loss(logits, target, temperature=temperature, sample_mask=rows)


def problem_type_of(
    config: Any, labels: Tensor | None, logits: Mapping[str, Tensor]
) -> ProblemType:
    """Say what the logits of a head mean, as transformers decides it for the task loss.

    Args:
        config: configuration of the student.
        labels: labels of the batch, if there are any. Several labels a row are floating-point numbers.
        logits: logits of the head by name. Heads for choices and for words have others than ``num_labels`` says.

    Returns:
        The name that transformers has for it. Every head of another kind has one of several classes.
    """
    single = "logits" in logits and logits["logits"].shape[-1] == 1
    if config.problem_type == "regression" or (config.num_labels == 1 and single):
        return "regression"
    several = labels is not None and labels.is_floating_point()
    if config.problem_type == "multi_label_classification" or several:
        return "multi_label_classification"
    return "single_label_classification"


def mean_logits(
    logits: Sequence[Tensor],
    problem_type: ProblemType,
    *,
    temperature: float,
    class_mask: Tensor | None = None,
) -> Tensor:
    """Return the logits that several teachers predict together.

    Args:
        logits: logits of each teacher, all of one shape.
        problem_type: meaning of the logits, see `problem_type_of`. Of the numbers of a regression the mean is taken. Of
            labels and classes the mean of the probabilities is taken.
        temperature: temperature of the KD.
        class_mask: see `mean_prediction`. Default: every class counts.
    """
    if problem_type == "regression":
        return torch.stack([one.detach().float() for one in logits]).mean(dim=0)
    if problem_type == "multi_label_classification":
        return mean_bernoulli(logits, temperature=temperature)
    return mean_prediction(logits, temperature=temperature, class_mask=class_mask)


def are_of_tokens(output: EncoderOutput) -> bool:
    """Return whether each token has logits ``(B, L, C)`` of its own."""
    return "logits" in output.logits and output.logits["logits"].dim() == 3


def classes_last(logits: Tensor) -> Tensor:
    """Return logits with their classes in the last dimension, as `kd_loss` reads them.

    Args:
        logits: any, or those of the pixels of an image, ``(B, C, H, W)``, as the heads of transformers return them.
    """
    return logits.movedim(1, -1) if logits.dim() == 4 else logits
