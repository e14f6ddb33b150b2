"""Build a student with fewer layers from a teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from itrd_nlp.errors import UserError
from itrd_nlp.models.adapters import merged
from itrd_nlp.models.loading import set_dropout
from itrd_nlp.models.quantised import is_quantised

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

    The student gets fp32 copies of the embeddings, the chosen layers and the head. The teacher does not change. Its
    adapters are merged into the copies. Its configuration may ask for hidden states or attentions as outputs; the
    student's does not, because that was said of the teacher. If you
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
        UserError: this teacher does not have the chosen layers, a layer does not fit into its place, or the teacher
            does not hold its layers in one list or is quantised.

    Example:
        >>> teacher = AutoModelForQuestionAnswering.from_pretrained("my-teacher")
        >>> student = build_student(teacher, num_layers=3)  # from layers 1, 2, 3
    """
    if is_quantised(teacher):
        raise UserError(
            "the teacher is quantised, so a student cannot copy its layers; load it without quantisation, or load a "
            "student of your own."
        )
    teacher = merged(teacher)
    layers = student_layers(init, num_layers, teacher.config.num_hidden_layers)
    config = copy.deepcopy(teacher.config)
    config.output_hidden_states = config.output_attentions = False
    _cut_layer_lists(config, layers or list(range(1, num_layers + 1)))
    config.num_hidden_layers = num_layers
    config.dtype = "float32"
    if dropout is not None:
        set_dropout(config, dropout)
    student: Any = type(teacher)(config)
    if layers is not None:
        student.load_state_dict(_copied_state(student, teacher, layers))
    built: PreTrainedModel = student.float().train()
    return built


def _cut_layer_lists(config: Any, layers: Sequence[int]) -> None:
    """Cut each list of a configuration that has an entry for each layer to the entries of the chosen layers.

    ModernBERT has ``layer_types`` and Longformer ``attention_window``; other models use other names. A list counts if
    its length is the number of layers and its name is not that of a list about something else.
    """
    total = config.num_hidden_layers
    for name, value in vars(config).items():
        other = name.startswith("_") or name.endswith(("architectures", "token_id", "token_ids"))
        if isinstance(value, list | tuple) and len(value) == total and not other:
            setattr(config, name, type(value)(value[layer - 1] for layer in layers))


def _copied_state(
    student: PreTrainedModel, teacher: PreTrainedModel, layers: Sequence[int]
) -> dict[str, Tensor]:
    """The state of a student whose layers are copies of the teacher's.

    Raises:
        UserError: a layer of the teacher has other parts than the place of the student that it is to take.
    """
    prefix = encoder_layers_name(teacher) + "."
    theirs, ours = teacher.state_dict(), student.state_dict()
    for place, layer in enumerate(layers):
        wanted = _parts(ours, f"{prefix}{place}.")
        found = _parts(theirs, f"{prefix}{layer - 1}.")
        if wanted != found:
            part = min(wanted.items() ^ found.items())[0]
            raise UserError(
                f"student_init puts layer {layer} of {type(teacher).__name__} into place {place + 1}, but they differ "
                f"in {part}; take the first layers, or a checkpoint of its own for the student."
            )
    state = {}
    for name in ours:
        source = name
        if name.startswith(prefix):
            index, _, rest = name.removeprefix(prefix).partition(".")
            source = f"{prefix}{layers[int(index)] - 1}.{rest}"
        state[name] = theirs[source].float()
    return state


def _parts(state: dict[str, Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    """Name of each tensor of a layer, without the layer's own name, to its shape."""
    return {
        name.removeprefix(prefix): tuple(value.shape)
        for name, value in state.items()
        if name.startswith(prefix)
    }


def encoder_layers_name(model: PreTrainedModel) -> str:
    """Find the name of the ``nn.ModuleList`` that holds the layers of an encoder, such as ``bert.encoder.layer``.

    Args:
        model: an encoder of transformers.

    Returns:
        The name of the list as a submodule of the model.

    Raises:
        UserError: the model does not hold its layers in exactly one list. ALBERT, for example, shares one layer.
    """
    total = getattr(model.config, "num_hidden_layers", None)
    if not isinstance(total, int):
        raise UserError(
            f"the configuration of {type(model).__name__} has no number of layers to choose from; give a student of "
            "your own."
        )
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
