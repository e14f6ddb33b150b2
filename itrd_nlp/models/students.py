"""Build a student with fewer layers from a teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import set_dropout

STUDENT_LAYERS = ("uniform", "first", "last", "random")


def uniform_layers(num_layers: int, total: int) -> list[int]:
    """Choose ``num_layers`` of ``total`` layers, evenly spread and with the last one: 3 of 12 are 4, 8, 12.

    Args:
        num_layers: number of layers to choose.
        total: number of layers to choose from.

    Returns:
        Numbers of the layers, counted from 1.
    """
    return [round(total * (i + 1) / num_layers) for i in range(num_layers)]


def student_layers(
    choice: str | Sequence[int | str], num_layers: int, total: int
) -> list[int] | None:
    """Choose the teacher layers from which a student starts.

    Args:
        choice: ``"uniform"``, ``"first"``, ``"last"``, ``"random"``, or the layer numbers, counted from 1. For 3 of 12
            layers ``"uniform"`` is 4, 8, 12; ``"first"`` is 1, 2, 3; and ``"last"`` is 10, 11, 12. ``"random"`` gives
            the student random weights.
        num_layers: number of layers of the student, from 1 to ``total``.
        total: number of layers of the teacher.

    Returns:
        Numbers of the layers, counted from 1, or None for ``"random"``.

    Raises:
        UserError: the choice is unknown, a layer does not exist, or the number of layers is wrong.
    """
    if not isinstance(choice, str) and len(choice) == 1 and choice[0] in STUDENT_LAYERS:
        choice = str(choice[0])  # a command line passes a word as a list
    if not 1 <= num_layers <= total:
        raise UserError(
            f"num_layers is {num_layers}, but a student of this teacher can have 1 to {total} layers."
        )
    if choice == "random":
        return None
    if choice == "uniform":
        return uniform_layers(num_layers, total)
    if choice == "first":
        return list(range(1, num_layers + 1))
    if choice == "last":
        return list(range(total - num_layers + 1, total + 1))
    try:
        if isinstance(choice, str):
            raise ValueError
        layers = [int(layer) for layer in choice]
    except ValueError:
        raise UserError(
            f"student_init is {choice!r}, but must be one of {', '.join(STUDENT_LAYERS)} or layer numbers."
        ) from None
    if len(layers) != num_layers:
        raise UserError(
            f"student_init names {len(layers)} teacher layers ({layers}), but the student has {num_layers}."
        )
    for layer in layers:
        if not 1 <= layer <= total:
            raise UserError(
                f"student_init names teacher layer {layer}, but the teacher has layers 1 to {total}."
            )
    return layers


def build_student(
    teacher: PreTrainedModel,
    num_layers: int,
    *,
    init: str | Sequence[int | str] = "first",
    dropout: float | None = None,
) -> PreTrainedModel:
    """Build a student of the teacher's architecture with fewer layers.

    The student gets fp32 copies of the embeddings, the chosen layers and the head. The teacher does not change. If you
    want a narrower or an entirely different student, load or configure it yourself. `itrd_nlp.ITRDTrainer` accepts any
    student whose logits have the teacher's shape.

    Args:
        teacher: any encoder of transformers that holds its layers in one ``nn.ModuleList``.
        num_layers: number of layers of the student, from 1 to the teacher's number.
        init: choice of the teacher layers, see `student_layers`. ``"random"`` copies nothing. Default: ``"first"``,
            the best start of nearly all students in ``docs/results.md``.
        dropout: dropout of the student's hidden states and attention, from 0 to 1. Default: the teacher's dropout.

    Returns:
        A new model of the teacher's class, in training mode and in fp32.

    Raises:
        UserError: this teacher does not have the chosen layers, or it does not hold its layers in one list.

    Example:
        >>> teacher = AutoModelForQuestionAnswering.from_pretrained("my-teacher")
        >>> student = build_student(teacher, num_layers=3)  # from layers 1, 2, 3
    """
    layers = student_layers(init, num_layers, teacher.config.num_hidden_layers)
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = num_layers
    config.dtype = "float32"
    if dropout is not None:
        set_dropout(config, dropout)
    student: Any = type(teacher)(config)
    if layers is not None:
        prefix = encoder_layers_name(teacher) + "."
        teacher_state = teacher.state_dict()
        state = {}
        for name in student.state_dict():
            source = name
            if name.startswith(prefix):
                index, _, rest = name.removeprefix(prefix).partition(".")
                source = f"{prefix}{layers[int(index)] - 1}.{rest}"
            state[name] = teacher_state[source].float()
        student.load_state_dict(state)
    built: PreTrainedModel = student.float().train()
    return built


def encoder_layers_name(model: PreTrainedModel) -> str:
    """Find the name of the ``nn.ModuleList`` that holds the layers of an encoder, such as ``bert.encoder.layer``.

    Args:
        model: an encoder of transformers.

    Returns:
        The name of the list as a submodule of the model.

    Raises:
        UserError: the model does not hold its layers in exactly one list. ALBERT, for example, shares one layer.
    """
    total = model.config.num_hidden_layers
    names: list[str] = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == total
    ]
    if len(names) != 1:
        raise UserError(
            f"{type(model).__name__} holds no single list of its {total} layers to choose from (found {names}); "
            "give a student checkpoint instead."
        )
    return names[0]
