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
)
from itrd_nlp.distillation.gradient_share import GradientShare
from itrd_nlp.distillation.logit_kd import LogitLoss, ProblemType, are_of_tokens, logit_kd_loss
from itrd_nlp.distillation.reading import PairReader
from itrd_nlp.distillation.samples import (
    Samples,
    common_width,
    each_pair,
    joined,
    mask_for_peers,
    pair_by_pair,
    unless_all,
)
from itrd_nlp.losses import (
    correlation_loss,
    make_projection,
    mutual_information_loss,
)
from itrd_nlp.losses.outputs import EncoderOutput, LayerPair
from itrd_nlp.losses.peers import Sizes, term_name


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
        reader = PairReader(args, self.pairs, self.widths, list(self.projections))
        # Peers and the share of the gradient read the states once more.
        release = student.release and not self.peers and self.balance is None
        read = reader.read(student, teacher, mask, release=release)
        if read.corr:
            yield "corr", args.beta_corr, self._correlation(read.corr)
        if read.mi:
            yield "mi", args.beta_mi, self._mutual_information(read.mi, reader.mi_rows)

    def _correlation(self, groups: list[Samples]) -> Tensor:
        args = self.args
        loss = partial(
            correlation_loss, alpha=args.alpha, unbiased=args.unbiased_std, log=args.corr_log
        )
        if args.corr_view == "sequence":
            # A sequence has its own statistics and lies on one process.
            return pair_by_pair(loss, groups)
        reduce = sum_over_ranks if args.sync_statistics else None
        return joined(
            loss(z_s, z_t, mask=unless_all(valid, len(z_s)), reduce=reduce, per_group=True)
            for z_s, z_t, valid in groups
        )

    def _mutual_information(self, groups: list[Samples], rows: int) -> Tensor:
        args = self.args
        loss = partial(mutual_information_loss, log=args.mi_log)
        if args.mi_view == "sequence":
            return pair_by_pair(loss, groups)
        if args.mi_gather:
            if args.mi_view == "pooled":  # a row of the batch may hold several sequences
                first = groups[0].student
                rows = largest_over_ranks(first.shape[1], first.device)
            groups = [Samples(*gather_pairs(*group, rows)) for group in groups]
        return joined(
            loss(z_s, z_t, mask=unless_all(valid, len(z_s)), per_group=True)
            for z_s, z_t, valid in groups
        )


def _share_of_kd(
    share: BatchShare, student: EncoderOutput, own: LogitLoss | None
) -> Tensor | float:
    return share.tokens if own is None and are_of_tokens(student) else share.logits
