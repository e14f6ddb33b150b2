"""What the trainer checks of its arguments, and does to student and teachers, before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, set_seed

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.compatibility import Access, plan
from itrd_nlp.distillation.model import DistillationModel
from itrd_nlp.distillation.objective import ITRDObjective
from itrd_nlp.errors import UserError
from itrd_nlp.models.encode import input_names
from itrd_nlp.models.low_bits import prepare_qat, remove_qat
from itrd_nlp.models.peft_adapters import check_adapters, has_adapters
from itrd_nlp.models.placing import put_on
from itrd_nlp.models.quantised import is_quantised

logger = logging.getLogger(__name__)


def checked_arguments(model: Any, args: Any, others: dict[str, Any]) -> ITRDTrainingArguments:
    """Return ``args``, and refuse arguments of `ITRDTrainer` that are missing, of another kind, or would do nothing.

    Args:
        model: the argument ``model``.
        args: the argument ``args``.
        others: the arguments of `transformers.Trainer` that are given.

    Raises:
        UserError: names the argument and says what to give.
    """
    if not isinstance(args, ITRDTrainingArguments):
        raise UserError(
            f"args is {type(args).__name__}, but must be ITRDTrainingArguments, which says what the objective is."
        )
    if (model is None) == (others.get("model_init") is None):
        raise UserError("give either model, the student, or model_init, a function that makes it.")
    if others.get("compute_loss_func") is not None:
        raise UserError(
            "compute_loss_func is given, but the objective makes the loss; give your own as a PeerLoss in "
            "peer_losses."
        )
    return args


def check_optimizer(optimizer: torch.optim.Optimizer | None, objective: nn.Module) -> None:
    """Refuse an optimizer that was made before the objective, and so does not train the projections.

    Raises:
        UserError: says which argument makes an optimizer of all parameters.
    """
    if optimizer is None:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    left_out = [name for name, p in objective.named_parameters() if id(p) not in held]
    if left_out:
        raise UserError(
            f"optimizers holds an optimizer without the parameters of the objective ({', '.join(left_out[:3])}), which "
            "the trainer makes; give its class and arguments as optimizer_cls_and_kwargs."
        )


def build_distillation_model(
    student: PreTrainedModel,
    teacher: nn.Module | None,
    args: ITRDTrainingArguments,
    more_teachers: Sequence[nn.Module],
    access: Access,
) -> DistillationModel:
    """Return a student with an objective that fits it, its teachers and the arguments.

    Raises:
        UserError: see `plan` and `prepare_student`; or shards would hold the weights of a peer in 16 bits.
    """
    found = plan(student, teacher, args, more_teachers, access)
    prepare_student(student, args)
    set_seed(args.seed)  # before the weights of projections and peers are drawn
    objective = ITRDObjective(
        found.pairs,
        student_size=found.student,
        teacher_size=found.teacher,
        student_heads=found.heads[0],
        teacher_heads=found.heads[1],
        args=args,
    )
    _check_shards(objective, args)
    return DistillationModel(student, objective, access.student, access.losses)


def _check_shards(objective: ITRDObjective, args: ITRDTrainingArguments) -> None:
    """Refuse peers that compute in fp32 with weights that FSDP and DeepSpeed hand out in 16 bits."""
    names = [name for name, peer in objective.peers.items() if any(True for _ in peer.parameters())]
    if names and args.sharded and args.mixed_precision != "no":
        raise UserError(
            f"peer_losses has {' and '.join(names)}, which computes in fp32 with weights of its own, but FSDP and "
            f"DeepSpeed hand these out in {args.mixed_precision}; leave it out, train in fp32, or train by DDP."
        )


def prepare_student(student: PreTrainedModel, args: ITRDTrainingArguments) -> None:
    """Refuse a student that cannot be trained or saved, and give it weights in fp32, which it may read in few bits.

    Updates are smaller than the steps between numbers of 16 bits, so weights of 16 bits would not learn. bf16 and fp16
    of the arguments compute in 16 bits and keep the weights in 32.

    Raises:
        UserError: the student is quantised, or has adapters that do not save all it trains or are to be pushed; or
            ``weight_bits`` finds no layer.
    """
    if is_quantised(student):
        raise UserError(
            "the student is quantised, but a student trains all of its weights; load it without quantisation, and "
            "quantise it after the training."
        )
    if has_adapters(student):
        check_adapters(student)
        if args.weight_bits > 0:
            raise UserError(
                f"weight_bits is {args.weight_bits}, but the student has adapters, which leave its own weights as they "
                "are; set it to 0."
            )
        if args.push_to_hub:
            raise UserError(
                "push_to_hub is true, but the student has adapters and the Hub gets whole models; merge them after "
                "the training by merge_and_unload, and push the result."
            )
    dtypes = {p.dtype for p in student.parameters()} - {torch.float32, torch.float64}
    if dtypes:
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        logger.warning(
            "The student has weights in %s; they are trained in float32 (bf16 or fp16 still compute in 16 bits).",
            names,
        )
        student.float()
    if args.weight_bits > 0:
        prepare_qat(student, args.weight_bits)
    else:
        remove_qat(student)  # an earlier trainer may have had it in few bits


def freeze_teacher(teacher: nn.Module, args: ITRDTrainingArguments) -> nn.Module:
    """Freeze a teacher, and put it in evaluation mode, on the device and into the dtype of the arguments.

    A quantised teacher keeps its dtypes.

    Raises:
        UserError: a dtype is asked for, but the teacher is quantised; or it cannot be moved, see `put_on`.
    """
    teacher.eval().requires_grad_(False)
    if not is_quantised(teacher):
        return put_on(teacher, args.device, args.resolved_teacher_dtype())
    if args.teacher_dtype != "auto":
        raise UserError(
            f"teacher_dtype is {args.teacher_dtype!r}, but the teacher is quantised and stays so; set it to auto."
        )
    return put_on(teacher, args.device)


def inputs_of(*teachers: nn.Module | None) -> list[str]:
    """Return the names of the inputs of all teachers."""
    return [name for teacher in teachers if teacher is not None for name in input_names(teacher)]
