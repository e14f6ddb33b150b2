"""Build a student with fewer layers from a teacher."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from itrd_nlp.errors import UserError
from itrd_nlp.models.loading import set_dropout
from itrd_nlp.models.low_bits import rounded_state
from itrd_nlp.models.peft_adapters import merged
from itrd_nlp.models.quantised import is_quantised

logger = logging.getLogger(__name__)

# T5 computes the bias of relative positions in its first layer for all layers.
_OF_FIRST = ".relative_attention_bias."

# Lists of the numbers of some layers, counted from 0: in Zamba2, Qwen2-MoE, Llama 4, Bamba, LFM2, Molmo2 and Mllama.
_NUMBERS = (
    "hybrid_layer_ids",
    "mlp_only_layers",
    "moe_layers",
    "attn_layer_indices",
    "full_attn_idxs",
    "rope_scaling_layers",
    "cross_attention_layers",
)

# Lists about something else, whose length may be the number of layers by chance. In the order of the rows: tokens;
# positions, such as the kinds of relative ones in DeBERTa; images; convolutions and samplings for sound; scales of the
# parts of each layer; layers that predict several tokens, and the features of time series.
_OF_OTHER_THINGS = (
    *("_*", "*architectures", "*token_id", "*token_ids", "*suppress_tokens", "lang*"),
    *("pos_att_type", "axial_pos_*", "relative_bias_args", "type_vocab_sizes"),
    *("*_size", "image_*", "patch_stride", "norm_mean", "norm_std", "pool_scales", "neck_*"),
    *("conv_*", "tdnn_*", "resblock_*", "upsamp*", "downsamp*", "quant*"),
    *("*multipliers", "*residual_weights", "time_step_limit"),
    *("mtp_*", "cardinality", "embedding_dimension", "lags_sequence"),
)
_OF_LAYERS = ("intermediate_size",)  # in Gemma 3n, whatever these patterns say

_LINEAR = "linear_attention"

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

    The student gets fp32 copies of the embeddings, the chosen layers and the head. The teacher does not change. A
    trainer casts its teacher, so build the students of several trainings before the first of them. The teacher's
    adapters are merged into the copies. Its configuration may ask for hidden states or attentions as outputs; the
    student's does not, because that was said of the teacher. If you want a narrower or an entirely different student,
    load or configure it yourself. `itrd_nlp.ITRDTrainer` accepts any student whose logits have the teacher's shape.

    Args:
        teacher: any encoder of transformers that holds its layers in one ``nn.ModuleList``, or whose layers are one
            layer that runs again and again (ALBERT), so that all choices are the same.
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
    rounded = {p.dtype for p in teacher.parameters()} & {torch.bfloat16, torch.float16}
    if rounded:
        logger.warning(
            "The teacher has weights in %s, so the student starts from rounded ones. A trainer casts its teacher: "
            "build the student before, or load the teacher anew.",
            " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in rounded)),
        )
    teacher = merged(teacher)
    layers = student_layers(init, num_layers, number_of_layers(teacher))
    chosen = layers or list(range(1, num_layers + 1))
    student: Any = _with_layers(teacher, chosen, dropout)
    if not _shares_layers(teacher):
        _check_number_of_layers(student, encoder_layers_name(teacher), num_layers)
    if layers is not None:
        student.load_state_dict(_copied_state(student, teacher, layers))
    built: PreTrainedModel = student.float().train()
    return built


def _with_layers(teacher: PreTrainedModel, layers: Sequence[int], dropout: float | None) -> Any:
    """Return a new model of the teacher's class whose configuration has the chosen layers alone.

    Raises:
        UserError: the architecture needs layers of certain kinds or numbers.
    """
    config = copy.deepcopy(teacher.config)
    config.output_hidden_states = config.output_attentions = False
    try:
        _cut_layer_lists(config, layers)
        _set_number_of_layers(teacher, config, len(layers))
        if getattr(config, "stage_names", None):  # each layer is a stage of a backbone with a name
            stages = ("stage_names", "out_features", "out_indices", "_out_features", "_out_indices")
            known = {k: v for k, v in config.to_dict().items() if k not in stages}
            config = type(config)(**known)
        config.dtype = "float32"
        if dropout is not None:
            set_dropout(config, dropout)
        return type(teacher)(config)
    except UserError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120].rstrip(".")
        raise UserError(
            f"{type(teacher).__name__} cannot have these {len(layers)} layers ({reason}); load or configure a student "
            "of your own."
        ) from error


def _set_number_of_layers(teacher: PreTrainedModel, config: Any, num_layers: int) -> None:
    """Set the number of layers in a configuration whose lists have been cut.

    Raises:
        UserError: the configuration refuses it, or the layers that are left cannot run by themselves.
    """
    who = type(teacher).__name__
    try:
        config.num_hidden_layers = num_layers
    except (AttributeError, NotImplementedError):
        raise UserError(
            f"the layers of {who} lie in blocks, so that none can be chosen; load or configure a student of your own."
        ) from None
    left = set(getattr(config, "layer_types", None) or [])
    if left == {_LINEAR} and set(teacher.config.layer_types) != left:
        raise UserError(
            f"student_init leaves {who} layers of linear attention alone, and it cannot run without one of full "
            "attention; choose the layers by their numbers."
        )


def _check_number_of_layers(student: PreTrainedModel, name: str, num_layers: int) -> None:
    """Refuse a student with more layers than were asked for, because its configuration counts them in another way."""
    blocks: Any = student.get_submodule(name)
    if len(blocks) != num_layers:
        raise UserError(
            f"{type(student).__name__} has {len(blocks)} layers in {name} whatever num_hidden_layers says; load or "
            "configure a student of your own."
        )


def _cut_layer_lists(config: Any, layers: Sequence[int]) -> None:
    """Cut each list of a configuration that has an entry for each layer to the entries of the chosen layers.

    ModernBERT has ``layer_types`` and Longformer ``attention_window``; other models use other names. A list counts if
    its length is the number of layers and its name is not that of a list about something else.
    """
    total = config.num_hidden_layers
    for name, value in vars(config).items():
        other = name not in _OF_LAYERS and any(fnmatchcase(name, p) for p in _OF_OTHER_THINGS)
        if name in _NUMBERS and value:
            setattr(
                config, name, [place for place, layer in enumerate(layers) if layer - 1 in value]
            )
        elif isinstance(value, list | tuple) and len(value) == total and not other:
            setattr(config, name, type(value)(value[layer - 1] for layer in layers))


def number_of_layers(model: nn.Module) -> int:
    """Return the number of layers that the configuration names.

    Raises:
        UserError: it names none, because the model has stages or parts with layers of their own.
    """
    total = getattr(model.config, "num_hidden_layers", None)
    if not isinstance(total, int):
        raise UserError(
            f"the configuration of {type(model).__name__} names no number of layers to choose from; load or configure "
            "a student of your own."
        )
    return total


def _shares_layers(model: PreTrainedModel) -> bool:
    """Whether groups of layers are one layer that runs again and again, as in ALBERT."""
    return isinstance(getattr(model.config, "num_hidden_groups", None), int)


def _copied_state(
    student: PreTrainedModel, teacher: PreTrainedModel, layers: Sequence[int]
) -> dict[str, Tensor]:
    """The state of a student whose layers are copies of the teacher's.

    Raises:
        UserError: a layer of the teacher has other parts than the place of the student that it is to take.
    """
    theirs, ours = rounded_state(teacher), student.state_dict()
    # All layers are the same weights, so that any choice is the same student.
    if _shares_layers(teacher):
        return {name: theirs[name].float() for name in ours}
    prefix = encoder_layers_name(teacher) + "."
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
    for name, value in ours.items():
        source = name
        if name.startswith(prefix):
            index, _, rest = name.removeprefix(prefix).partition(".")
            source = f"{prefix}{layers[int(index)] - 1}.{rest}"
            if _OF_FIRST in name and source not in theirs:
                source = name
        copied = theirs.get(source)
        if copied is None or copied.shape != value.shape:
            # ESM predicts contacts by the attention of all its layers.
            logger.warning("%s of the student starts anew: its size follows the layers.", name)
            copied = value
        state[name] = copied.float() if copied.is_floating_point() else copied
    return state


def _parts(state: dict[str, Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    """Name of each tensor of a layer, without the layer's own name, to its shape."""
    return {
        name.removeprefix(prefix): tuple(value.shape)
        for name, value in state.items()
        if name.startswith(prefix) and _OF_FIRST not in name
    }


def encoder_layers_name(model: nn.Module) -> str:
    """Find the name of the ``nn.ModuleList`` that holds the layers of an encoder, such as ``bert.encoder.layer``.

    Args:
        model: an encoder of transformers.

    Returns:
        The name of the list as a submodule of the model.

    Raises:
        UserError: the model does not hold its layers in exactly one list. ALBERT, for example, shares one layer.
    """
    total = number_of_layers(model)
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
