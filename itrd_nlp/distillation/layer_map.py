"""The layer map: which student layer learns from which teacher layer."""

from __future__ import annotations

from collections.abc import Sequence

from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.models.students import uniform_layers

LAYER_MAPS = ("uniform", "last")


def layer_pairs(
    layer_map: str | Sequence[str | tuple[int, int]],
    *,
    student_layers: int,
    teacher_layers: int,
    include_embeddings: bool = False,
) -> list[LayerPair]:
    """Resolve a layer map to pairs of student and teacher layers.

    Args:
        layer_map: name of a map, or explicit pairs. ``"uniform"`` maps student layer k to teacher layer
            ``k * teacher_layers / student_layers``, as the paper and TextBrewer do. For a teacher of 12 layers it gives
            2, 4, .., 12 for 6 student layers, and 4, 8, 12 for 3. ``"last"`` maps only the last layers of both. Pairs
            have the form ``[(1, 4), (2, 8)]`` or ``["1:4", "2:8"]``; layer 0 is the embeddings.
        student_layers: number of layers of the student.
        teacher_layers: number of layers of the teacher.
        include_embeddings: add the pair ``0:0``, the outputs of the two embedding layers. Default: false.

    Returns:
        The pairs in the given order. A pair ``0:0`` that was added comes first.

    Raises:
        UserError: the map is unknown, malformed or empty, names a pair twice, or names a layer that does not exist.

    Example:
        >>> layer_pairs("uniform", student_layers=3, teacher_layers=12)
        [LayerPair(student=1, teacher=4), LayerPair(student=2, teacher=8), LayerPair(student=3, teacher=12)]
    """
    if not isinstance(layer_map, str) and len(layer_map) == 1 and layer_map[0] in LAYER_MAPS:
        layer_map = str(layer_map[0])  # a command line passes a word as a list
    if layer_map == "uniform":
        pairs = [
            LayerPair(i + 1, t)
            for i, t in enumerate(uniform_layers(student_layers, teacher_layers))
        ]
    elif layer_map == "last":
        pairs = [LayerPair(student_layers, teacher_layers)]
    elif isinstance(layer_map, str):
        raise UserError(
            f"layer_map is {layer_map!r}, but must be {' or '.join(LAYER_MAPS)} or pairs such as 1:4 2:8 3:12."
        )
    else:
        pairs = [_pair(entry) for entry in layer_map]
    if include_embeddings and LayerPair(0, 0) not in pairs:
        pairs.insert(0, LayerPair(0, 0))
    _check(pairs, student_layers, teacher_layers)
    return pairs


def _check(pairs: list[LayerPair], student_layers: int, teacher_layers: int) -> None:
    """Refuse pairs that are missing, repeated or beyond the last layer of a model."""
    if not pairs:
        raise UserError("layer_map is empty, but must name at least one pair such as 1:4.")
    for pair in pairs:
        for side, layer, total in (
            ("student", pair.student, student_layers),
            ("teacher", pair.teacher, teacher_layers),
        ):
            if not 0 <= layer <= total:
                raise UserError(
                    f"layer_map pair {pair} names {side} layer {layer}, but the {side} has layers 1 to {total} "
                    "(0 is its embeddings)."
                )
    repeated = {str(pair) for pair in pairs if pairs.count(pair) > 1}
    if repeated:
        raise UserError(f"layer_map names the pair {sorted(repeated)[0]} more than once.")


def _pair(entry: str | tuple[int, int]) -> LayerPair:
    parts = entry.split(":") if isinstance(entry, str) else entry
    try:
        student, teacher = (int(part) for part in parts)
    except (TypeError, ValueError):
        raise UserError(
            f"layer_map entry {entry!r} is not a pair of layers such as 1:4 (student layer : teacher layer)."
        ) from None
    return LayerPair(student, teacher)
