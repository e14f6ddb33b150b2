"""The objective: its terms, their layer pairs and their weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.distributed import (
    gather_pairs,
    largest_over_ranks,
    sum_over_ranks,
    world_size,
)
from itrd_nlp.distillation.gradient_share import GradientShare
from itrd_nlp.distillation.logit_kd import LogitLoss, ProblemType, are_of_tokens, logit_kd_loss
from itrd_nlp.distillation.samples import (
    Samples,
    Views,
    alike_together,
    check_width,
    common_width,
    each_pair,
    first_samples,
    mask_for_peers,
    masks_of_pair,
    pair_by_pair,
    stacked,
    take,
    unless_all,
    zeros_unless,
)
from itrd_nlp.losses import (
    correlation_loss,
    make_projection,
    mutual_information_loss,
)
from itrd_nlp.losses.outputs import EncoderOutput, LayerPair
from itrd_nlp.losses.peers import Sizes, term_name
from itrd_nlp.losses.views import draw_samples, to_samples


@dataclass
class BatchShare:
    """The share of a micro-batch in its optimizer step, for each kind of term.

    The means over micro-batches of different sizes do not add up to the mean over all of them. Multiplied by their
    shares they do. On one process without gradient accumulation the shares are 1, but for a warm start, which sets
    those of the task loss and KD to 0.

    Attributes:
        task: share of the labels, for the task loss. Default: 1.
        logits: share of the rows, for KD. Default: 1.
        batch: one divided by the number of micro-batches, for terms that are statistics of a batch. Default: 1.
        fade: factor of the weights of all terms that read hidden states. It is 1 unless they fade. Default: 1.
        measure: whether to measure the gradients for ``hidden_share``. Default: false.
        tokens: share of the valid tokens, for KD where each token has logits. Default: 1.
    """

    task: Tensor | float = 1.0
    logits: Tensor | float = 1.0
    batch: float = 1.0
    fade: float = 1.0
    measure: bool = False
    tokens: Tensor | float = 1.0


class ITRDObjective(nn.Module):
    """The weighted sum of task loss, logit KD, correlation, mutual information (paper, eq. 10) and peer losses.

    The objective holds one projection ``d_s -> d_t`` for each layer pair, where a loss reads one. The correlation
    loss always reads the projected student. The mutual information loss reads it only if the widths differ (paper,
    section 5). The losses of other papers (``args.peer_losses``) hold their own projections and sum over the pairs
    themselves. They use the statistics of one process.

    With several processes the correlation loss uses the statistics of all processes (``sync_statistics``). With
    ``mi_gather`` the mutual information loss uses the samples of all processes. Both losses then have the same value on
    every process. The mean of the gradients over the processes equals the gradient of one process with the whole batch.

    Args:
        pairs: the layer pairs.
        student_size: width of the student's hidden states, or one for each pair if its layers differ.
        teacher_size: likewise of the teacher.
        args: the training arguments with the weights and views of the terms.
        student_heads: number of attention heads of the student. Only peers that read attention need it. Default: 1.
        teacher_heads: number of attention heads of the teacher. Only peers that read attention need it. Default: 1.

    Raises:
        UserError: a peer in ``args.peer_losses`` does not exist or cannot compare these models.
    """

    def __init__(
        self,
        pairs: Sequence[LayerPair],
        *,
        student_size: int | Sequence[int],
        teacher_size: int | Sequence[int],
        args: ITRDTrainingArguments,
        student_heads: int = 1,
        teacher_heads: int = 1,
    ) -> None:
        super().__init__()
        self.pairs = list(pairs) if args.needs_hidden_states else []
        self.args = args
        self.widths = list(
            zip(
                each_pair(student_size, self.pairs),
                each_pair(teacher_size, self.pairs),
                strict=True,
            )
        )
        needs_projection = args.beta_corr > 0 or (
            args.beta_mi > 0 and any(ours != theirs for ours, theirs in self.widths)
        )
        self.projections = nn.ModuleList(
            make_projection(ours, theirs, init=args.projection_init)
            if args.beta_corr > 0 or ours != theirs
            else nn.Identity()
            for ours, theirs in (self.widths if needs_projection else [])
        )
        sizes = Sizes(*common_width(self.widths, args), student_heads, teacher_heads)
        views = ((args.beta_corr, args.corr_view), (args.beta_mi, args.mi_view))
        self._views_in_use = list(dict.fromkeys(view for beta, view in views if beta > 0))
        peers = args.peers
        self.peers = nn.ModuleDict({term_name(peer): peer(sizes, self.pairs) for peer in peers})
        self.peer_weights = {term_name(peer): weight for peer, weight in peers.items()}
        self.balance = GradientShare(args.hidden_share) if args.hidden_share > 0 else None

    def forward(
        self,
        student: EncoderOutput,
        teacher: EncoderOutput | None,
        task_loss: Tensor | None,
        mask: Tensor | None,
        share: BatchShare,
        problem_type: ProblemType = "single_label_classification",
        logit_loss: LogitLoss | None = None,
    ) -> dict[str, Tensor]:
        """Compute every term that has a weight.

        Args:
            student: output of the student.
            teacher: output of the teacher on the same inputs. None if no term needs a teacher.
            task_loss: mean task loss of the micro-batch, a scalar. None if its weight is 0.
            mask: ``(B, L)``, bool or 0/1, true where a token is no padding. None if all positions count, as those of
                an image do.
            share: the share of this micro-batch in the optimizer step.
            problem_type: the meaning of the logits, see `problem_type_of`. Those of a span are known by their names.
            logit_loss: the KD of a task that has its own. Default: None, ``problem_type`` decides.

        Returns:
            Scalars by name. ``loss`` is the weighted total with its gradient. The terms are detached and have no
            weight: ``task``, ``kd``, ``corr`` and ``mi`` over all pairs, ``corr_1:4`` and ``mi_1:4`` and so on for
            single pairs, peers by their own names, such as ``patient_kd``, and ``hidden_scale`` with ``hidden_share``.
            Every value is multiplied by its share.
        """
        args, fade = self.args, share.fade
        terms: dict[str, Tensor] = {}
        output_terms: list[Tensor] = []
        hidden_terms: list[Tensor] = []

        def add(name: str, weight: float, value: Tensor, weighted: list[Tensor]) -> None:
            terms[name] = value.detach()
            weighted.append(weight * value)

        if task_loss is not None:
            part = torch.as_tensor(share.task, device=task_loss.device)
            # The mean over no labels is NaN. A process without labels adds 0 while other processes have some.
            task = torch.where(part > 0, task_loss.float() * part, 0)
            add("task", args.w_task, task, output_terms)
        if teacher is not None and args.w_kd > 0:
            kd = logit_kd_loss(student, teacher, mask, problem_type, args.temperature, logit_loss)
            add("kd", args.w_kd, kd * _share_of_kd(share, student, logit_loss), output_terms)
        if teacher is not None and self.pairs:
            for name, beta, values in self._layer_losses(student, teacher, mask):
                values = values * share.batch
                for pair, value in zip(self.pairs, values.detach(), strict=True):
                    terms[f"{name}_{pair}"] = value
                value = values.sum() if args.layer_reduction == "sum" else values.mean()
                add(name, beta * fade, value, hidden_terms)
            for name, weight, value in self._peer_losses(student, teacher, mask):
                add(name, weight * fade, value * share.batch, hidden_terms)
        if self.balance is not None and hidden_terms:
            state = student.hidden_states[max(pair.student for pair in self.pairs)]
            scale = self.balance(output_terms, hidden_terms, state, fade, measure=share.measure)
            terms["hidden_scale"] = scale * share.batch
            hidden_terms = [scale * value for value in hidden_terms]
        return {"loss": torch.stack([*output_terms, *hidden_terms]).sum(), **terms}

    def _peer_losses(
        self, student: EncoderOutput, teacher: EncoderOutput, mask: Tensor | None
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of each loss of another paper."""
        for name, peer in self.peers.items():
            valid = mask_for_peers(student, teacher, self.pairs[0], mask)
            yield name, self.peer_weights[name], peer(student, teacher, valid)

    def _layer_losses(
        self, student: EncoderOutput, teacher: EncoderOutput, mask: Tensor | None
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and values ``(pairs,)`` of correlation and mutual information, if they have a weight."""
        args = self.args
        # Peers and the share of the gradient read the states once more.
        release = student.release and not self.peers and self.balance is None
        read: list[tuple[Samples | None, Samples | None]] = []
        drawn: dict[int, Tensor | None] = {}  # by length: the layers of one length share their draw
        for i, pair in enumerate(self.pairs):
            read.append(self._samples_of_pair(i, student, teacher, mask, drawn))
            if release and all(pair.student != later.student for later in self.pairs[i + 1 :]):
                del student.hidden_states[pair.student]
        for_corr = [corr for corr, _ in read if corr is not None]
        for_mi = [mi for _, mi in read if mi is not None]
        if for_corr:
            values = alike_together(self._correlation, for_corr, exchanged=args.sync_statistics)
            yield "corr", args.beta_corr, values
        if for_mi:
            values = alike_together(self._mutual_information, for_mi, exchanged=args.mi_gather)
            yield "mi", args.beta_mi, values

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
        pooled = set(self._views_in_use) <= {"pooled"}
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
            mi = first_samples(embedded, z_t, args.mi_view, self._mi_rows())
        return corr, mi

    def _draw(self, mask: Tensor) -> Tensor | None:
        """Draw the tokens that the losses read, valid tokens first. None means that they read all tokens or none."""
        args = self.args
        reads = (
            (args.beta_corr, args.corr_view, args.corr_max_samples),
            (args.beta_mi, args.mi_view, self._mi_rows()),
        )
        most = [rows for beta, view, rows in reads if beta > 0 and view == "tokens"]
        if not most or min(most) >= mask.numel():
            return None
        return draw_samples(mask.flatten(), max(most))

    def _views(self, hidden: Tensor, mask: Tensor, drawn: Tensor | None) -> Views:
        """Return the samples of a layer in each view that has a weight. The view of tokens holds the drawn ones."""
        views: Views = {}
        for view in self._views_in_use:
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

    def _correlation(self, pairs: list[Samples]) -> Tensor:
        args = self.args
        loss = partial(
            correlation_loss, alpha=args.alpha, unbiased=args.unbiased_std, log=args.corr_log
        )
        if args.corr_view == "sequence":
            # A sequence has its own statistics and lies on one process.
            return pair_by_pair(loss, pairs)
        samples = stacked(pairs)
        return loss(
            samples.student,
            samples.teacher,
            mask=unless_all(samples.valid, len(pairs)),
            reduce=sum_over_ranks if args.sync_statistics else None,
            per_group=True,
        )

    def _mutual_information(self, pairs: list[Samples]) -> Tensor:
        loss = partial(mutual_information_loss, log=self.args.mi_log)
        if self.args.mi_view == "sequence":
            return pair_by_pair(loss, pairs)
        samples = stacked(pairs)
        if self.args.mi_gather:
            rows = self._mi_rows()
            if self.args.mi_view == "pooled":  # a row of the batch may hold several sequences
                rows = largest_over_ranks(samples.student.shape[1], samples.student.device)
            samples = Samples(*gather_pairs(*samples, rows))
        mask = unless_all(samples.valid, len(pairs))
        return loss(samples.student, samples.teacher, mask=mask, per_group=True)

    def _mi_rows(self) -> int:
        """Return the largest number of tokens of this process in the MI loss."""
        return self.args.mi_max_samples // (world_size() if self.args.mi_gather else 1)


def _share_of_kd(
    share: BatchShare, student: EncoderOutput, own: LogitLoss | None
) -> Tensor | float:
    return share.tokens if own is None and are_of_tokens(student) else share.logits
