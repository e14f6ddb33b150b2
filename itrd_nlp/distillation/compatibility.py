"""Whether student, teachers and objective fit each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.layer_map import layer_pairs
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers import Sizes
from itrd_nlp.models.attention import attention_projections
from itrd_nlp.models.loading import label_names


def resolve_pairs(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    args: ITRDTrainingArguments,
    more_teachers: Sequence[PreTrainedModel] = (),
) -> list[LayerPair]:
    """Return the layer pairs of a distillation. There are none if no term reads hidden states.

    Raises:
        UserError: the objective needs a teacher and there is none, the two do not fit each other or a peer, or the
            layer map names a layer that does not exist; there are more teachers and no KD; the student is a teacher,
            too; labels are to be smoothed.
    """
    if more_teachers and (args.w_kd == 0 or teacher is None):
        why = "w_kd is 0" if args.w_kd == 0 else "there is no first one"
        raise UserError(f"more_teachers are given, but {why}; they serve logit KD alone.")
    if any(student is other for other in (teacher, *more_teachers)):
        raise UserError(
            "the student and a teacher are one object, but a teacher is frozen; build the student with build_student, "
            "or load the model twice."
        )
    if args.label_smoothing_factor > 0:
        raise UserError(
            f"label_smoothing_factor is {args.label_smoothing_factor}, but the task loss of a distillation smooths no "
            "labels; set it to 0. The teacher's probabilities serve that purpose: see w_kd and temperature."
        )
    for other in more_teachers:
        check_compatible(student, other)
    if not args.needs_teacher:
        return []
    if teacher is None:
        raise UserError(
            "teacher is None, but w_kd, beta_corr or beta_mi is > 0 or there are peer_losses; give a teacher, or none "
            "of these."
        )
    check_compatible(student, teacher)
    if not args.needs_hidden_states:
        return []
    pairs = layer_pairs(
        args.layer_map,
        student_layers=student.config.num_hidden_layers,
        teacher_layers=teacher.config.num_hidden_layers,
        include_embeddings=args.include_embeddings,
    )
    if args.needs_attention:
        attention_projections(student)
        attention_projections(teacher)
    # A peer refuses models in its constructor. The draws of its weights must leave no trace.
    with torch.random.fork_rng(devices=[]):
        for peer in args.peers:
            peer(sizes_of(student, teacher), pairs)
    return pairs


def sizes_of(student: PreTrainedModel, teacher: PreTrainedModel) -> Sizes:
    """Return the widths and the numbers of attention heads of both models."""
    return Sizes(
        student=student.config.hidden_size,
        teacher=teacher.config.hidden_size,
        student_heads=student.config.num_attention_heads,
        teacher_heads=teacher.config.num_attention_heads,
    )


def check_compatible(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Refuse a pair of models that cannot be distilled into each other.

    Raises:
        UserError: the vocabularies, the number of labels or their order differ.
    """
    for what, name in (("vocabulary", "vocab_size"), ("labels", "num_labels")):
        ours, theirs = getattr(student.config, name), getattr(teacher.config, name)
        if ours != theirs:
            raise UserError(
                f"{name} of the student is {ours} and of the teacher {theirs}, but they must be equal: both read the "
                f"same inputs, and their {what} must mean the same."
            )
    ours, theirs = (label_names(model.config) for model in (student, teacher))
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise UserError(
            f"id2label of the student is {', '.join(ours)} and of the teacher {', '.join(theirs)}, but the labels must "
            "have one order, because KD compares logit with logit."
        )
