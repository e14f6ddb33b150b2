"""The objective: its terms, their layer pairs and their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

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
from itrd_nlp.errors import UserError
from itrd_nlp.losses import (
    bernoulli_kd_loss,
    correlation_loss,
    kd_loss,
    make_projection,
    mutual_information_loss,
    span_kd_loss,
    value_kd_loss,
)
from itrd_nlp.losses.outputs import EncoderOutput, LayerPair
from itrd_nlp.losses.peers import Sizes, term_name
from itrd_nlp.losses.views import draw_samples, to_samples

LogitKind = Literal["classes", "labels", "values"]
"""The meaning of logits: one of several classes, labels that may hold together, or numbers."""

LogitLoss = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]
"""The KD of a task's own, of the logits of student and teacher."""


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
        self._pooled = all(view == "pooled" for beta, view in views if beta > 0)
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
        kind: LogitKind = "classes",
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
            kind: the meaning of the logits, by which KD compares all but those of a span head. Default: ``"classes"``.
            logit_loss: the KD of a task that has its own. Default: None, ``kind`` decides.

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
            kd = _logit_loss(student, teacher, mask, kind, args.temperature, logit_loss)
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
        for_corr: list[Samples] = []
        for_mi: list[Samples] = []
        drawn: dict[int, Tensor | None] = {}
        for i, (pair, widths) in enumerate(zip(self.pairs, self.widths, strict=True)):
            ours, theirs = student.hidden_states[pair.student], teacher.hidden_states[pair.teacher]
            check_width(pair, (ours, theirs), widths)
            mask_s, mask_t = masks_of_pair(ours, theirs, mask, teacher.mask, pooled=self._pooled)
            length = mask_s.shape[1]
            if length not in drawn:  # the layers of one length share their draw
                drawn[length] = self._draw(mask_s)
            z_s = self._views(ours, mask_s, drawn[length])
            z_t = self._views(theirs, mask_t, drawn[length])
            projected = self._projected(i, z_s, ours, mask_s)
            if args.beta_corr > 0:
                rows = args.corr_max_samples if args.corr_view == "tokens" else None
                for_corr.append(first_samples(projected, z_t, args.corr_view, rows))
            if args.beta_mi > 0:
                rows = self._mi_rows() if args.mi_view == "tokens" else None
                embedded = z_s if ours.shape[-1] == theirs.shape[-1] else projected
                for_mi.append(first_samples(embedded, z_t, args.mi_view, rows))
            if release and all(pair.student != later.student for later in self.pairs[i + 1 :]):
                del student.hidden_states[pair.student]
        del ours, z_s  # the last ones
        if args.beta_corr > 0:
            exchanged = args.sync_statistics and world_size() > 1
            values = alike_together(self._correlation, for_corr, exchanged=exchanged)
            yield "corr", args.beta_corr, values
        if args.beta_mi > 0:
            exchanged = args.mi_gather and world_size() > 1
            values = alike_together(self._mutual_information, for_mi, exchanged=exchanged)
            yield "mi", args.beta_mi, values

    def _draw(self, mask: Tensor) -> Tensor | None:
        """Draw the tokens that the losses read, valid tokens first. None means that they read all tokens or none."""
        args = self.args
        most = [0]
        if args.beta_corr > 0 and args.corr_view == "tokens":
            most.append(args.corr_max_samples)
        if args.beta_mi > 0 and args.mi_view == "tokens":
            most.append(self._mi_rows())
        tokens = mask.numel()
        if max(most) == 0 or min(most[1:]) >= tokens:
            return None
        return draw_samples(mask.flatten(), max(most))

    def _views(self, hidden: Tensor, mask: Tensor, drawn: Tensor | None) -> Views:
        """Return the samples of a layer in each view that has a weight. The view of tokens holds the drawn ones."""
        args = self.args
        views: Views = {}
        for beta, view in ((args.beta_corr, args.corr_view), (args.beta_mi, args.mi_view)):
            if beta > 0 and view not in views:
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
    return share.tokens if own is None and _are_of_tokens(student) else share.logits


def _are_of_tokens(output: EncoderOutput) -> bool:
    """Return whether each token has logits ``(B, L, C)`` of its own."""
    return "logits" in output.logits and output.logits["logits"].dim() == 3


def classes_last(logits: Tensor) -> Tensor:
    """Return logits with their classes in the last dimension, as `kd_loss` reads them.

    Args:
        logits: any, or those of the pixels of an image, ``(B, C, H, W)``, as the heads of transformers return them.
    """
    return logits.movedim(1, -1) if logits.dim() == 4 else logits


def _logit_loss(
    student: EncoderOutput,
    teacher: EncoderOutput,
    mask: Tensor | None,
    kind: LogitKind,
    temperature: float,
    own: LogitLoss | None,
) -> Tensor:
    """Return the KD loss of the logits: the task's own, else by what they mean."""
    if own is not None:
        return own(student.logits, teacher.logits)
    if not student.logits:
        raise UserError(
            "the student returns no logits, which w_kd compares with those of the teacher; set w_kd to 0, or give "
            "models with heads."
        )
    for name, value in student.logits.items():
        other = teacher.logits.get(name)
        if other is None or other.shape != value.shape:
            found = "none" if other is None else str(tuple(other.shape))
            raise UserError(
                f"{name} of the student have the shape {tuple(value.shape)} and of the teacher {found}, so that KD "
                "cannot compare them; give models with heads of one kind, or set w_kd to 0."
            )
    if "start_logits" in student.logits:
        return span_kd_loss(
            student.logits["start_logits"],
            student.logits["end_logits"],
            teacher.logits["start_logits"],
            teacher.logits["end_logits"],
            temperature=temperature,
            mask=mask,
        )
    logits, target = (classes_last(one.logits["logits"]) for one in (student, teacher))
    rows = mask if _are_of_tokens(student) else None
    if kind == "values":
        return value_kd_loss(logits, target, sample_mask=rows)
    loss = bernoulli_kd_loss if kind == "labels" else kd_loss
    return loss(logits, target, temperature=temperature, sample_mask=rows)
