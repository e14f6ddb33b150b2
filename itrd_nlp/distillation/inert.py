"""Arguments of transformers that would be accepted and do nothing in a distillation."""

from __future__ import annotations

from typing import Any

from transformers import TrainingArguments

from itrd_nlp.errors import UserError


def refuse_inert(args: TrainingArguments) -> None:
    """Refuse an argument that the objective cannot heed.

    Raises:
        UserError: names the argument, the reason and what to do.
    """
    if args.label_smoothing_factor > 0:
        raise UserError(
            f"label_smoothing_factor is {args.label_smoothing_factor}, but the task loss of a distillation smooths no "
            "labels; set it to 0. The teacher's probabilities serve that purpose: see w_kd and temperature."
        )
    if args.use_liger_kernel or args.liger_kernel_config is not None:
        raise UserError(
            "use_liger_kernel or liger_kernel_config is given, but Liger has no kernels for a student with its "
            "objective; leave both out."
        )
    if not args.average_tokens_across_devices:
        raise UserError(
            "average_tokens_across_devices is false, but a distillation counts the labels of a step over all "
            "processes; leave it true."
        )
    if args.parallelism_config is not None:
        raise UserError(
            "parallelism_config is given, but the losses need whole models and whole sequences on every process; "
            "leave it out, and see docs/distributed.md for DDP, FSDP and DeepSpeed."
        )


def refuse_reentrant(args: TrainingArguments) -> None:
    """Refuse the kind of activation checkpointing under which hidden states have no gradient.

    Raises:
        UserError: says which argument to change.
    """
    options: Any = args.activation_checkpointing_kwargs or {}  # a dict by now
    if args.activation_checkpointing and options.get("use_reentrant"):
        raise UserError(
            "use_reentrant is true, but it would take the gradients from the hidden states that the losses read; leave "
            "it out of activation_checkpointing_kwargs."
        )
