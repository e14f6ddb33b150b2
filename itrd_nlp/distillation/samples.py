"""The samples of the layer pairs: their widths, their masks, and the way in which a loss reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.distributed import world_size
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import EncoderOutput, LayerPair
from itrd_nlp.models.adaptor import full_mask

Views = dict[str, tuple[Tensor, Tensor]]
"""Mapping from views to the samples of one layer and the mask of those that count."""


class Samples(NamedTuple):
    """The part of one layer pair, or of several that are stacked, that a loss reads.

    Attributes:
        student: the student's samples ``(..., n, d_s)``.
        teacher: the teacher's samples ``(..., n, d_t)``.
        valid: mask ``(..., n)`` of the samples that count.
    """

    student: Tensor
    teacher: Tensor
    valid: Tensor


def masks_of_pair(
    ours: Tensor,
    theirs: Tensor,
    mask: Tensor | None,
    of_teacher: Tensor | None,
    *,
    pooled: bool,
) -> tuple[Tensor, Tensor]:
    """Return the masks of both models' states of a pair. A view of single positions needs one mask for both.

    Args:
        ours: states of the student ``(B, L, d)``.
        theirs: states of the teacher ``(B, L', d')``.
        mask: ``(B, L)``, of the student. None: all its positions count.
        of_teacher: ``(B, L')``. None: the student's, if the two have the same positions; else all positions count.
        pooled: each side is averaged, so that the two need not have the same positions.

    Returns:
        Mask of the student ``(B, L)`` and of the teacher ``(B, L')``.

    Raises:
        UserError: a view of single positions is chosen, but the two have different positions.
    """
    mask_s = full_mask(ours) if mask is None else mask
    if of_teacher is None and mask is not None and mask.shape == theirs.shape[:2]:
        of_teacher = mask
    mask_t = full_mask(theirs) if of_teacher is None else of_teacher
    if pooled or mask_s is mask_t:
        return mask_s, mask_t
    if mask_s.shape != mask_t.shape:
        raise UserError(
            f"the student has {mask_s.shape[1]} positions where its teacher has {mask_t.shape[1]}, so that they cannot "
            "be compared one by one; set corr_view and mi_view to pooled."
        )
    both = mask_s.bool() & mask_t.bool()
    return both, both


def mask_for_peers(
    student: EncoderOutput, teacher: EncoderOutput, pair: LayerPair, mask: Tensor | None
) -> Tensor:
    """Return the mask ``(B, L)`` for peers, which compare position with position.

    Args:
        student: output of the student.
        teacher: output of the teacher.
        pair: a layer pair, which stands for all.
        mask: of the student; None: all its positions count.

    Raises:
        UserError: the two have different positions.
    """
    ours, theirs = student.hidden_states[pair.student], teacher.hidden_states[pair.teacher]
    if ours.shape[:2] != theirs.shape[:2]:
        raise UserError(
            f"the student has {ours.shape[1]} positions where its teacher has {theirs.shape[1]}, but peer_losses "
            "compare them one by one; leave peer_losses out."
        )
    return full_mask(ours) if mask is None else mask


def each_pair(size: int | Sequence[int], pairs: Sequence[LayerPair]) -> list[int]:
    """Return the width for each pair."""
    return [size] * len(pairs) if isinstance(size, int) else list(size)


def common_width(widths: Sequence[tuple[int, int]], args: ITRDTrainingArguments) -> tuple[int, int]:
    """Return the width of the student and of the teacher in all pairs, which peers need.

    Args:
        widths: both widths of each pair.
        args: the arguments with the peers.

    Raises:
        UserError: there are peers, and the pairs differ in width.
    """
    if args.peers and len(set(widths)) > 1:
        raise UserError(
            f"peer_losses are given, but the layers of the pairs have the widths {sorted(set(widths))} (student, "
            "teacher) and peers need one; set layer_map to last, or leave peer_losses out."
        )
    return widths[0] if widths else (1, 1)


def check_width(pair: LayerPair, states: Sequence[Tensor], widths: tuple[int, int]) -> None:
    """Refuse states of another width than the configuration has announced.

    Raises:
        UserError: names both.
    """
    found = tuple(z.shape[-1] for z in states)
    if found != widths:
        raise UserError(
            f"the hidden states of the layer pair {pair} have the widths {found} (student, teacher), but the "
            f"configurations say {widths}; give an adaptor, whose states are measured before the first step."
        )


def gains_from_few_kernels(device: torch.device) -> bool:
    """Whether one large kernel is faster than several small ones: on a CPU one layer pair keeps all cores busy."""
    return device.type != "cpu"


def grouped(pairs: list[Samples], view: str, *, exchanged: bool) -> list[Samples]:
    """Stack the samples of the layer pairs, all of them or each by itself.

    Together, a GPU starts each kernel once, and processes exchange their statistics once. Pairs of different shapes
    must stay by themselves. On a CPU they do, too, unless processes exchange: one pair keeps a CPU busy, and the
    samples are not copied into a stack.

    Args:
        pairs: samples of each layer pair, ``(n, d)``, or ``(B, L, d)`` in the view of sequences.
        view: the view of the loss.
        exchanged: whether the loss exchanges statistics or samples where there are several processes.

    Returns:
        Samples ``(g, n, d)`` of ``g`` pairs, with one mask ``(n,)`` for all of them. In the view of sequences the pairs
        as they are.
    """
    if view == "sequence" or not pairs:
        return pairs
    shapes = {(pair.student.shape, pair.teacher.shape) for pair in pairs}
    together = gains_from_few_kernels(pairs[0].student.device) or (exchanged and world_size() > 1)
    if len(shapes) == 1 and together:
        return [stacked(pairs)]
    return [stacked([pair]) for pair in pairs]


def joined(values: Iterable[Tensor]) -> Tensor:
    """Concatenate the losses of groups of pairs."""
    found = list(values)
    return found[0] if len(found) == 1 else torch.cat(found)


def pair_by_pair(loss: Callable[..., Tensor], pairs: list[Samples]) -> Tensor:
    """Compute the loss of each layer pair by itself, because its samples are already groups."""
    return torch.stack([loss(pair.student, pair.teacher, mask=pair.valid) for pair in pairs])


def take(hidden: Tensor, drawn: Tensor) -> Tensor:
    """Copy the drawn positions ``(n, d)`` of hidden states ``(B, L, d)``.

    The gradient of the copy has the size of all positions. The backward pass runs what was computed last first, so it
    would make this gradient for every layer while the activations of all layers are still alive. So the copy gets the
    place of the layer that made the states: its gradient is made when that layer is next.

    Args:
        hidden: hidden states of one layer.
        drawn: indices ``(n,)`` into its ``B * L`` positions.
    """
    # The backward pass of hidden[drawn] would take three times as long on a CPU.
    taken = hidden.flatten(0, 1).index_select(0, drawn)
    compiled = torch.compiler.is_compiling()  # a compiler orders the backward pass itself
    if not compiled and taken.grad_fn is not None and hidden.grad_fn is not None:
        taken.grad_fn._set_sequence_nr(hidden.grad_fn._sequence_nr())  # type: ignore[attr-defined]
    return taken


def first_samples(student: Views, teacher: Views, view: str, rows: int) -> Samples:
    """Return what a loss reads of a layer pair: the first ``rows`` samples of the tokens, or all of another view.

    Rows that are not all rows are copied, so that the others are freed.
    """
    valid = student[view][1]
    if view != "tokens" or rows >= len(valid):
        return Samples(student[view][0], teacher[view][0], valid)
    return Samples(student[view][0][:rows].clone(), teacher[view][0][:rows].clone(), valid[:rows])


def stacked(pairs: list[Samples]) -> Samples:
    """Stack the samples of all layer pairs.

    Returns:
        The student's samples ``(pairs, n, d_s)``, the teacher's samples ``(pairs, n, d_t)``, and their mask ``(n,)``.
    """
    first = pairs[0]
    if len(pairs) == 1:
        return Samples(first.student[None], first.teacher[None], first.valid)
    return Samples(
        torch.stack([pair.student for pair in pairs]),
        torch.stack([pair.teacher for pair in pairs]),
        first.valid,
    )


def unless_all(valid: Tensor, pairs: int) -> Tensor | None:
    """Return the mask of all layer pairs, or None if every sample counts.

    On a CPU, applying a mask takes longer than finding out that it is all true. On a GPU the mask stays, because the
    test would have to wait for the GPU.
    """
    return None if valid.device.type == "cpu" and bool(valid.all()) else valid.expand(pairs, -1)


def zeros_unless(mask: Tensor, hidden: Tensor) -> Tensor:
    """Return ``hidden (..., d)`` with zeros in the rows that ``mask (...)`` leaves out.

    A layer that reads NaN in a row that does not count has a gradient of NaN, because 0 * NaN is NaN. On a CPU the copy
    is made only if a row does not count, see `unless_all`.
    """
    if mask.device.type == "cpu" and bool(mask.all()):
        return hidden
    return torch.where(mask.bool().unsqueeze(-1), hidden, 0)
