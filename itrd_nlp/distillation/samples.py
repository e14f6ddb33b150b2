"""The samples of the layer pairs: their widths, their masks, and the way in which a loss reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.losses.outputs import EncoderOutput, LayerPair
from itrd_nlp.models.adaptor import full_mask

Views = dict[str, tuple[Tensor, Tensor]]
"""Mapping from views to the samples of one layer and the mask of those that count."""


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


def alike_together(
    loss: Callable[[list[Views], list[Views]], Tensor], student: list[Views], teacher: list[Views]
) -> Tensor:
    """Compute a loss of all layer pairs ``(pairs,)``: at once if they have one shape, else one by one."""
    shapes = {
        tuple(z.shape for views in pair for z, _ in views.values())
        for pair in zip(student, teacher, strict=True)
    }
    if len(shapes) <= 1:
        return loss(student, teacher)
    return torch.cat(
        [loss([ours], [theirs]) for ours, theirs in zip(student, teacher, strict=True)]
    )


def pair_by_pair(
    loss: Callable[..., Tensor], student: list[Views], teacher: list[Views], view: str
) -> Tensor:
    """Compute the loss of each layer pair by itself, because its samples are already groups."""
    return torch.stack(
        [
            loss(s[view][0], t[view][0], mask=s[view][1])
            for s, t in zip(student, teacher, strict=True)
        ]
    )


def stacked(
    student: list[Views], teacher: list[Views], view: str, rows: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Stack the first ``rows`` samples of all layer pairs.

    One pass over the stack starts each kernel only once, and processes exchange their statistics only once.

    Returns:
        The student's samples ``(pairs, n, d_s)``, the teacher's samples ``(pairs, n, d_t)``, and their mask ``(n,)``.
    """
    return (
        torch.stack([views[view][0][:rows] for views in student]),
        torch.stack([views[view][0][:rows] for views in teacher]),
        student[0][view][1][:rows],
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
