"""Reading the samples of the layer pairs: drawn, projected, pair by pair or all pairs at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.distributed import world_size
from itrd_nlp.distillation.samples import (
    Samples,
    Views,
    check_width,
    first_samples,
    gains_from_few_kernels,
    grouped,
    masks_of_pair,
    take,
    zeros_unless,
)
from itrd_nlp.losses.outputs import EncoderOutput, LayerPair
from itrd_nlp.losses.views import draw_samples, to_samples


class Read(NamedTuple):
    """The samples of both losses, in the shapes of `grouped`. A loss without weight has none.

    Attributes:
        corr: samples of the correlation loss.
        mi: samples of the MI loss.
    """

    corr: list[Samples]
    mi: list[Samples]


class PairReader:
    """Reads what correlation and MI loss need of the hidden states of the layer pairs.

    Args:
        args: the training arguments with views, weights and numbers of samples.
        pairs: the layer pairs.
        widths: widths of student and teacher in each pair.
        projections: the projection of each pair; none where no loss reads one.
    """

    def __init__(
        self,
        args: ITRDTrainingArguments,
        pairs: Sequence[LayerPair],
        widths: Sequence[tuple[int, int]],
        projections: Sequence[nn.Module],
    ) -> None:
        self.args, self.pairs, self.widths, self.projections = args, pairs, widths, projections
        views = ((args.beta_corr, args.corr_view), (args.beta_mi, args.mi_view))
        self.views = list(dict.fromkeys(view for beta, view in views if beta > 0))
        self.mi_rows = args.mi_max_samples // (world_size() if args.mi_gather else 1)
        """The largest number of tokens of this process in the MI loss."""

    def read(
        self, student: EncoderOutput, teacher: EncoderOutput, mask: Tensor | None, *, release: bool
    ) -> Read:
        """Read the samples of all layer pairs.

        Args:
            student: output of the student.
            teacher: output of the teacher on the same inputs.
            mask: ``(B, L)``, true where a token is no padding. None if all positions count.
            release: remove the student's states from its output when their samples are drawn.
        """
        if self._can_read_at_once(student, teacher):
            return self._at_once(student, teacher, mask, release=release)
        return self._one_by_one(student, teacher, mask, release=release)

    def _can_read_at_once(self, student: EncoderOutput, teacher: EncoderOutput) -> bool:
        """Whether the tokens of all pairs fit into one tensor of each model, on a device that gains from it.

        There the number of kernels decides how long small tensors take.
        """
        ours, theirs = self._states(student, teacher)
        return (
            self.views == ["tokens"]
            and gains_from_few_kernels(ours[0].device)
            and len(set(self.widths)) == 1
            and len({state.shape[:2] for state in (*ours, *theirs)}) == 1
            and all(len({state.dtype for state in states}) == 1 for states in (ours, theirs))
            and all(
                _is_plain(layer, widths)
                for layer, widths in zip(self.projections, self.widths, strict=False)
            )
        )

    def _states(
        self, student: EncoderOutput, teacher: EncoderOutput
    ) -> tuple[list[Tensor], list[Tensor]]:
        return (
            [student.hidden_states[pair.student] for pair in self.pairs],
            [teacher.hidden_states[pair.teacher] for pair in self.pairs],
        )

    def _at_once(
        self, student: EncoderOutput, teacher: EncoderOutput, mask: Tensor | None, *, release: bool
    ) -> Read:
        """Read the tokens of all pairs into ``(pairs, n, d)``, and project them by one batched product."""
        args = self.args
        ours, theirs = self._states(student, teacher)
        for pair, widths, *states in zip(self.pairs, self.widths, ours, theirs, strict=True):
            check_width(pair, states, widths)
        if release:
            for pair in self.pairs:
                student.hidden_states.pop(pair.student, None)
        valid, _ = masks_of_pair(ours[0], theirs[0], mask, teacher.mask, pooled=False)
        drawn, valid = self._draw(valid), valid.bool().flatten()
        if drawn is not None:
            valid = valid[drawn]
        z_s, z_t = (
            torch.stack(
                [state.flatten(0, 1) if drawn is None else take(state, drawn) for state in states]
            )
            for states in (ours, theirs)
        )
        projected = z_s
        if len(self.projections):
            projected = project_together(self.projections, zeros_unless(valid, z_s))
        embedded = z_s if z_s.shape[-1] == z_t.shape[-1] else projected

        def first(samples: Tensor, rows: int) -> Samples:
            return Samples(samples[:, :rows], z_t[:, :rows], valid[:rows])

        return Read(
            [first(projected, args.corr_max_samples)] if args.beta_corr > 0 else [],
            [first(embedded, self.mi_rows)] if args.beta_mi > 0 else [],
        )

    def _one_by_one(
        self, student: EncoderOutput, teacher: EncoderOutput, mask: Tensor | None, *, release: bool
    ) -> Read:
        args = self.args
        read: list[tuple[Samples | None, Samples | None]] = []
        drawn: dict[int, Tensor | None] = {}  # by length: the layers of one length share their draw
        for i, pair in enumerate(self.pairs):
            read.append(self._samples_of_pair(i, student, teacher, mask, drawn))
            if release and all(pair.student != later.student for later in self.pairs[i + 1 :]):
                del student.hidden_states[pair.student]
        corr = [corr for corr, _ in read if corr is not None]
        mi = [mi for _, mi in read if mi is not None]
        return Read(
            grouped(corr, args.corr_view, exchanged=args.sync_statistics),
            grouped(mi, args.mi_view, exchanged=args.mi_gather),
        )

    def _samples_of_pair(
        self,
        index: int,
        student: EncoderOutput,
        teacher: EncoderOutput,
        mask: Tensor | None,
        drawn: dict[int, Tensor | None],
    ) -> tuple[Samples | None, Samples | None]:
        """Return what the correlation and the MI loss read of a layer pair; None for a loss without weight."""
        args, pair = self.args, self.pairs[index]
        corr = mi = None
        ours, theirs = student.hidden_states[pair.student], teacher.hidden_states[pair.teacher]
        check_width(pair, (ours, theirs), self.widths[index])
        pooled = set(self.views) <= {"pooled"}
        mask_s, mask_t = masks_of_pair(ours, theirs, mask, teacher.mask, pooled=pooled)
        length = mask_s.shape[1]
        if length not in drawn:
            drawn[length] = self._draw(mask_s)
        z_s = self._views(ours, mask_s, drawn[length])
        z_t = self._views(theirs, mask_t, drawn[length])
        projected = self._projected(index, z_s, ours, mask_s)
        if args.beta_corr > 0:
            corr = first_samples(projected, z_t, args.corr_view, args.corr_max_samples)
        if args.beta_mi > 0:
            embedded = z_s if ours.shape[-1] == theirs.shape[-1] else projected
            mi = first_samples(embedded, z_t, args.mi_view, self.mi_rows)
        return corr, mi

    def _draw(self, mask: Tensor) -> Tensor | None:
        """Draw the tokens that the losses read, valid tokens first. None means that they read all tokens or none."""
        args = self.args
        reads = (
            (args.beta_corr, args.corr_view, args.corr_max_samples),
            (args.beta_mi, args.mi_view, self.mi_rows),
        )
        most = [rows for beta, view, rows in reads if beta > 0 and view == "tokens"]
        if not most or min(most) >= mask.numel():
            return None
        return draw_samples(mask.flatten(), max(most))

    def _views(self, hidden: Tensor, mask: Tensor, drawn: Tensor | None) -> Views:
        """Return the samples of a layer in each view that has a weight. The view of tokens holds the drawn ones."""
        views: Views = {}
        for view in self.views:
            if view == "tokens" and drawn is not None:
                views[view] = take(hidden, drawn), mask.bool().flatten()[drawn]
            else:
                views[view] = to_samples(hidden, mask, view)
        return views

    def _projected(self, index: int, views: Views, hidden: Tensor, mask: Tensor) -> Views:
        """Project the samples of a layer pair. In the view of tokens only the drawn tokens are projected."""
        if not len(self.projections):
            return views
        project = self.projections[index]
        projected: Views = {}
        for view, (samples, valid) in views.items():
            if view == "tokens":
                projected[view] = project(zeros_unless(valid, samples)), valid
            else:
                # Pooled samples are float32 means. The projection must read the hidden states in their own dtype, so
                # it comes before the mean.
                projected[view] = to_samples(project(zeros_unless(mask, hidden)), mask, view)
        return projected


def _is_plain(layer: nn.Module, widths: tuple[int, int]) -> bool:
    """Whether a projection does nothing but multiply and add, so that its weights say all.

    DeepSpeed's ZeRO-3 marks weights that it fetches for the module's own forward pass alone. A compiler of torch cannot
    look for such marks, and works with neither.
    """
    if type(layer) is not nn.Linear or layer.weight.shape != widths[::-1]:
        return False
    return torch.compiler.is_compiling() or not (
        "ds_id" in vars(layer.weight)
        or "forward" in vars(layer)
        or layer._forward_hooks
        or layer._forward_pre_hooks
    )


def project_together(layers: Sequence[nn.Module], samples: Tensor) -> Tensor:
    """Apply to each group of samples its own linear layer, by one batched product.

    Args:
        layers: one `torch.nn.Linear` for each group, all of the same shape ``(d_t, d_s)`` and with a bias.
        samples: ``(groups, n, d_s)``.

    Returns:
        ``(groups, n, d_t)``.
    """
    weights = torch.stack([layer.weight for layer in layers])  # type: ignore[misc]
    biases = torch.stack([layer.bias for layer in layers])  # type: ignore[misc]
    return torch.baddbmm(biases.unsqueeze(1), samples, weights.mT)
