"""Whether student, teachers and objective fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import (
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils.generic import find_labels

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.layer_map import layer_pairs
from itrd_nlp.distillation.samples import common_width
from itrd_nlp.distillation.task_losses import TaskLosses
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers import Sizes
from itrd_nlp.models.adaptor import Adaptor, check_readable
from itrd_nlp.models.anatomy import Anatomy, Example, Rows, anatomy, first_rows
from itrd_nlp.models.attention import attention_projections
from itrd_nlp.models.encode import input_names, reads_tokens
from itrd_nlp.models.loading import label_names


@dataclass(frozen=True)
class Access:
    """How the models are read, where they are not read as those of transformers.

    Attributes:
        student: the user's function for the student. Default: None.
        teacher: the user's function for the teachers. Default: None.
        example: makes a batch of columns of some rows, which show the widths of layers. Default: None.
        tokenizer: the tokenizer of both models, if it is known. Default: None.
        losses: the task's own losses, which read the logits. Default: None.
    """

    student: Adaptor | None = None
    teacher: Adaptor | None = None
    example: Rows | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    losses: TaskLosses | None = None


def access_of(
    student: Adaptor | None,
    teacher: Adaptor | None,
    trainer_kwargs: Mapping[str, Any],
    losses: TaskLosses | None = None,
) -> Access:
    """Return how the models are read, by the arguments of a trainer.

    Args:
        student: the user's function for the student.
        teacher: the user's function for the teachers.
        trainer_kwargs: arguments of `transformers.Trainer`, of which data, collator and tokenizer are read.
        losses: the task's own losses. Default: None.
    """
    rows, tokenizer = trainer_kwargs.get("train_dataset"), trainer_kwargs.get("processing_class")
    example = None
    if rows is not None:
        example = partial(first_rows, rows, trainer_kwargs.get("data_collator"), tokenizer)
    known = isinstance(tokenizer, PreTrainedTokenizerBase)
    return Access(student, teacher, example, tokenizer if known else None, losses)


@dataclass(frozen=True)
class Plan:
    """The layer pairs of a distillation and their widths.

    Attributes:
        pairs: the pairs; none if no term reads hidden states.
        student: width of the student in each pair.
        teacher: width of the teacher in each pair.
        heads: numbers of attention heads of student and teacher. Default: 1, for models without attention.
    """

    pairs: list[LayerPair]
    student: list[int]
    teacher: list[int]
    heads: tuple[int, int] = (1, 1)


def plan(
    student: PreTrainedModel,
    teacher: nn.Module | None,
    args: ITRDTrainingArguments,
    more_teachers: Sequence[nn.Module] = (),
    access: Access | None = None,
) -> Plan:
    """Find the layer pairs of a distillation, and refuse models that do not fit each other or the objective.

    Raises:
        UserError: the objective needs a teacher and there is none, the two do not fit each other or a peer, or the
            layer map names a layer that does not exist; there are more teachers and no KD; the student is a teacher,
            too, or shares weights with one; nobody knows how to read a model.
    """
    access = access or Access()
    check_readable(student, access.student, "student")
    if more_teachers and (args.w_kd == 0 or teacher is None):
        why = "w_kd is 0" if args.w_kd == 0 else "there is no first one"
        raise UserError(f"more_teachers are given, but {why}; they serve logit KD alone.")
    for other in (teacher, *more_teachers):
        check_apart(student, other)
    for other in more_teachers:
        check_readable(other, access.teacher, "teacher")
        check_compatible(student, other, access.tokenizer)
    if not args.needs_teacher:
        return Plan([], [], [])
    if teacher is None:
        raise UserError(
            "teacher is None, but w_kd, beta_corr or beta_mi is > 0 or there are peer_losses; give a teacher, or none "
            "of these."
        )
    check_readable(teacher, access.teacher, "teacher")
    check_compatible(student, teacher, access.tokenizer)
    if access.losses is None and access.student is access.teacher is None:
        for model in (student, teacher, *more_teachers):
            _refuse_writers(model)
    if not args.needs_hidden_states:
        return Plan([], [], [])
    ours, theirs = _examples(student, (teacher, *more_teachers), args, access)
    return _layer_plan(
        student,
        teacher,
        args,
        anatomy(student, access.student, ours),
        anatomy(teacher, access.teacher, theirs),
    )


def _examples(
    student: nn.Module,
    teachers: Sequence[nn.Module],
    args: ITRDTrainingArguments,
    access: Access,
) -> tuple[Example | None, Example | None]:
    """Return what makes a batch for the student and one for its teachers, of the columns that the trainer keeps.

    A teacher's batch has no labels.
    """
    rows = access.example
    if rows is None:
        return None, None
    labels = {*(args.label_names or find_labels(type(unwrap_peft_model(student)))), "labels"}
    columns = None
    if args.remove_unused_columns and access.student is access.teacher is None:
        read = [name for model in (student, *teachers) for name in input_names(model)]
        columns = {*read, *labels, "attention_mask", "label", "label_ids"}
    ours = partial(rows, columns)

    def theirs() -> dict[str, Any]:
        return {name: value for name, value in ours().items() if name not in labels}

    return ours, theirs


def _layer_plan(
    student: PreTrainedModel,
    teacher: nn.Module,
    args: ITRDTrainingArguments,
    ours: Anatomy,
    theirs: Anatomy,
) -> Plan:
    """Find the layer pairs, and refuse models that a peer cannot compare."""
    pairs = layer_pairs(
        args.layer_map,
        student_layers=ours.layers,
        teacher_layers=theirs.layers,
        include_embeddings=args.include_embeddings,
    )
    widths = [(ours.widths[pair.student], theirs.widths[pair.teacher]) for pair in pairs]
    if args.needs_attention:
        attention_projections(student)
        attention_projections(teacher)
    heads = _heads(student), _heads(teacher)
    sizes = Sizes(*common_width(widths, args), *heads)
    # A peer refuses models in its constructor. The draws of its weights must leave no trace.
    with torch.random.fork_rng(devices=[]):
        for peer in args.peers:
            peer(sizes, pairs)
    return Plan(pairs, [width for width, _ in widths], [width for _, width in widths], heads)


def _heads(model: nn.Module) -> int:
    """Return the number of attention heads; 1 of a model that has none, or more than one number."""
    found = getattr(getattr(model, "config", None), "num_attention_heads", None)
    return found if isinstance(found, int) else 1


def check_apart(student: nn.Module, teacher: nn.Module | None) -> None:
    """Refuse a student that shares weights with its teacher, which is frozen and cast in place.

    Args:
        student: the student.
        teacher: a teacher, if there is one.

    Raises:
        UserError: the two are one object, or a parameter of the student lies in the memory of one of the teacher.
    """
    if teacher is None:
        return
    if student is teacher:
        raise UserError(
            "the student and a teacher are one object, but a teacher is frozen; build the student with build_student, "
            "or load the model twice."
        )
    theirs = {place for p in teacher.parameters() for place in _places(p)}
    shared = [name for name, p in student.named_parameters() if not theirs.isdisjoint(_places(p))]
    if shared:
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise UserError(
            f"the student shares {shared[0]}{more} with a teacher, but a teacher is frozen; build the student with "
            "build_student, or give it copies of the teacher's modules by copy.deepcopy."
        )


def _places(parameter: nn.Parameter) -> set[int]:
    """Return numbers that two parameters of the same weights share: of the object, or of the memory behind it.

    ``load_state_dict`` with ``assign`` makes new parameters that have the old memory.
    """
    # Around other tensors, as those of torchao and in shards, or without values.
    without = is_traceable_wrapper_subclass(parameter) or parameter.is_meta
    memory = 0 if without else parameter.data_ptr()
    return {id(parameter), memory} if memory else {id(parameter)}


def check_compatible(
    student: PreTrainedModel,
    teacher: nn.Module,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Refuse a pair of models that cannot be distilled into each other.

    A module without a configuration of transformers says nothing that could be compared.

    Args:
        student: the student.
        teacher: the teacher.
        tokenizer: the tokenizer of both. Default: None, it is not known, so that the vocabularies must have one size.

    Raises:
        UserError: the vocabularies, the number of labels or their order differ.
    """
    config = getattr(teacher, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return
    if reads_tokens(student) and reads_tokens(teacher):
        _check_vocabulary_sizes(student.config, config, tokenizer)
    ours, theirs = student.config.num_labels, config.num_labels
    if ours != theirs:
        raise UserError(
            f"num_labels of the student is {ours} and of the teacher {theirs}, but they must be equal, "
            "because their labels must mean the same."
        )
    names, others = label_names(student.config), label_names(config)
    if names != others and sorted(names) == sorted(others):
        raise UserError(
            f"id2label of the student is {', '.join(names)} and of the teacher {', '.join(others)}, but the labels "
            "must have one order, because KD compares logit with logit."
        )


def _refuse_writers(model: nn.Module) -> None:
    """Refuse a language model of an encoder and a decoder, such as T5: its logits are of the text that it writes.

    Student and teacher would read different texts in their decoders, and the mask of the encoder is none of theirs.
    """
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False) and isinstance(
        unwrap_peft_model(model), GenerationMixin
    ):
        raise UserError(
            f"{type(unwrap_peft_model(model)).__name__} writes text by a decoder, but student and teacher must be "
            "encoders with a head, such as one for classes, labels or spans; distil its encoder, or give an adaptor."
        )


def _check_vocabulary_sizes(
    student: PreTrainedConfig, teacher: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None
) -> None:
    """Refuse embeddings of different numbers of tokens.

    Many models have more embeddings than tokens, so that their number is a round one. The tokenizer says how many ids
    there really are.

    Raises:
        UserError: the numbers differ, and no tokenizer says that both models know its ids.
    """
    ours, theirs = getattr(student, "vocab_size", None), getattr(teacher, "vocab_size", None)
    if ours == theirs or ours is None or theirs is None:
        return
    sentence = f"vocab_size of the student is {ours} and of the teacher {theirs}"
    if tokenizer is None:
        raise UserError(
            f"{sentence}, but both read the same token ids; if one of them is padded to a round number, give the "
            "tokenizer of both as processing_class, which shows it."
        )
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= min(ours, theirs):
        raise UserError(
            f"{sentence}, but the tokenizer has ids up to {largest}, which both models must know."
        )
