"""The objective: which terms, on which layer pairs, with which weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from itrd_nlp.distributed import gather_samples, sum_over_ranks, world_size
from itrd_nlp.layer_map import LayerPair
from itrd_nlp.losses import (
    correlation_loss,
    kd_loss,
    make_projection,
    mutual_information_loss,
    span_kd_loss,
)
from itrd_nlp.losses.peers import Sizes, term_name
from itrd_nlp.outputs import EncoderOutput
from itrd_nlp.representations import draw_samples, to_samples
from itrd_nlp.training_args import ITRDTrainingArguments

Views = dict[str, tuple[Tensor, Tensor]]
"""View -> the samples of one layer and which of them count."""


@dataclass
class BatchShare:
    """What part of an optimizer step this micro-batch is, per kind of term.

    Means over micro-batches of different sizes do not add up to the mean over all of them; a share weighs them
    so that they do. Without gradient accumulation and on one process all three are 1.

    Attributes:
        task: share of the labels, for the task loss.
        logits: share of the rows (or of the valid tokens, where each token has logits), for KD.
        batch: one over the number of micro-batches, for terms that are statistics of a batch.
    """

    task: Tensor | float = 1.0
    logits: Tensor | float = 1.0
    batch: float = 1.0


class ITRDObjective(nn.Module):
    """Logit KD, correlation and mutual information between a student and a teacher (paper, eq. 10), and peers.

    Holds the projections ``d_s -> d_t``, one per layer pair: the correlation loss always reads the projected
    student, the mutual information loss only where the widths differ (paper, section 5). The losses of other papers
    (``args.peer_losses``) hold their own, sum over the pairs by themselves and have the statistics of one process.

    Under several processes the correlation loss has the statistics of all of them (``sync_statistics``), the mutual
    information loss the samples of all of them where ``mi_gather`` asks for it. Both then have the same value on every
    process, and the mean of the gradients over the processes is that of one process with the whole batch.

    Args:
        pairs: the layer pairs.
        student_size: hidden size of the student.
        teacher_size: hidden size of the teacher.
        args: weights, views and the rest.
        student_heads: attention heads of the student; likewise `teacher_heads`. Only for peers that read attention.
        teacher_heads: see there.
    """

    def __init__(
        self,
        pairs: Sequence[LayerPair],
        *,
        student_size: int,
        teacher_size: int,
        args: ITRDTrainingArguments,
        student_heads: int = 1,
        teacher_heads: int = 1,
    ) -> None:
        super().__init__()
        self.pairs = list(pairs) if args.needs_hidden_states else []
        self.args = args
        self.same_size = student_size == teacher_size
        needs_projection = args.beta_corr > 0 or (args.beta_mi > 0 and not self.same_size)
        self.projections = nn.ModuleList(
            make_projection(student_size, teacher_size, init=args.projection_init)
            for _ in (self.pairs if needs_projection else [])
        )
        sizes = Sizes(student_size, teacher_size, student_heads, teacher_heads)
        peers = args.peers
        self.peers = nn.ModuleDict({term_name(peer): peer(sizes, self.pairs) for peer in peers})
        self.peer_weights = {term_name(peer): weight for peer, weight in peers.items()}

    def forward(
        self,
        student: EncoderOutput,
        teacher: EncoderOutput | None,
        task_loss: Tensor | None,
        mask: Tensor,
        share: BatchShare,
    ) -> dict[str, Tensor]:
        """Compute every term.

        Args:
            student: output of the student.
            teacher: output of the teacher, None where no term needs one.
            task_loss: mean task loss of the micro-batch, None where its weight is 0.
            mask: ``(B, L)``, true where a token is no padding.
            share: weights of this micro-batch in the optimizer step.

        Returns:
            ``loss``, the total with its gradient, and by name each term before its weight: ``task``, ``kd``,
            ``corr`` and ``mi`` (reduced over the pairs) and ``corr_1:4``, ``mi_1:4`` and so on for each pair, and
            each peer by its own name, such as ``patient_kd``. Every value carries its share.
        """
        args = self.args
        terms: dict[str, Tensor] = {}
        weighted: list[Tensor] = []

        def add(name: str, weight: float, value: Tensor) -> None:
            terms[name] = value.detach()
            weighted.append(weight * value)

        if task_loss is not None:
            part = torch.as_tensor(share.task, device=task_loss.device)
            # The mean over no labels is NaN: where a process has none while others do, it adds nothing.
            add("task", args.w_task, torch.where(part > 0, task_loss.float() * part, 0))
        if teacher is not None and args.w_kd > 0:
            add("kd", args.w_kd, self._kd(student, teacher, mask) * share.logits)
        if teacher is not None and self.pairs:
            drawn = self._draw(mask)
            corr: dict[str, Tensor] = {}
            mi: dict[str, Tensor] = {}
            for index, pair in enumerate(self.pairs):
                hidden = student.hidden_states[pair.student]
                z_s = self._views(hidden, mask, drawn)
                z_t = self._views(teacher.hidden_states[pair.teacher], mask, drawn)
                projected = self._projected(index, z_s, hidden, mask)
                if args.beta_corr > 0:
                    corr[f"corr_{pair}"] = self._correlation(projected, z_t) * share.batch
                if args.beta_mi > 0:
                    embedded = z_s if self.same_size else projected
                    mi[f"mi_{pair}"] = self._mutual_information(embedded, z_t) * share.batch
            for name, beta, values in (("corr", args.beta_corr, corr), ("mi", args.beta_mi, mi)):
                if values:
                    terms |= {key: value.detach() for key, value in values.items()}
                    stacked = torch.stack(list(values.values()))
                    add(
                        name,
                        beta,
                        stacked.sum() if args.layer_reduction == "sum" else stacked.mean(),
                    )
            for name, peer in self.peers.items():
                add(name, self.peer_weights[name], peer(student, teacher, mask) * share.batch)
        return {"loss": torch.stack(weighted).sum(), **terms}

    def _kd(self, student: EncoderOutput, teacher: EncoderOutput, mask: Tensor) -> Tensor:
        temperature = self.args.temperature
        if "start_logits" in student.logits:
            return span_kd_loss(
                student.logits["start_logits"],
                student.logits["end_logits"],
                teacher.logits["start_logits"],
                teacher.logits["end_logits"],
                temperature=temperature,
                mask=mask,
            )
        logits = student.logits["logits"]
        return kd_loss(
            logits,
            teacher.logits["logits"],
            temperature=temperature,
            sample_mask=mask if logits.dim() == 3 else None,
        )

    def _draw(self, mask: Tensor) -> Tensor | None:
        """Indices of the tokens that the losses read, valid ones first; None where they read all or none."""
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
        """The samples of a layer in the views in use; of the tokens those drawn."""
        args = self.args
        views: Views = {}
        for beta, view in ((args.beta_corr, args.corr_view), (args.beta_mi, args.mi_view)):
            if beta > 0 and view not in views:
                samples, valid = to_samples(hidden, mask, view)
                if view == "tokens" and drawn is not None:
                    samples, valid = samples[drawn], valid[drawn]
                views[view] = samples, valid
        return views

    def _projected(self, index: int, views: Views, hidden: Tensor, mask: Tensor) -> Views:
        """The same through the projection of a layer pair, which reads no more tokens than it must."""
        if not len(self.projections):
            return views
        project = self.projections[index]
        return {
            view: (project(samples), valid)
            if view == "tokens"
            else to_samples(project(hidden), mask, view)  # a mean over tokens has another dtype
            for view, (samples, valid) in views.items()
        }

    def _correlation(self, student: Views, teacher: Views) -> Tensor:
        view = self.args.corr_view
        (samples_s, valid), (samples_t, _) = student[view], teacher[view]
        if view == "tokens":
            rows = self.args.corr_max_samples
            samples_s, samples_t, valid = samples_s[:rows], samples_t[:rows], valid[:rows]
        # In the view "sequence" each sequence has its own statistics, and is on one process anyway.
        synchronise = self.args.sync_statistics and view != "sequence"
        return correlation_loss(
            samples_s,
            samples_t,
            alpha=self.args.alpha,
            mask=_unless_all(valid),
            unbiased=self.args.unbiased_std,
            reduce=sum_over_ranks if synchronise else None,
        )

    def _mutual_information(self, student: Views, teacher: Views) -> Tensor:
        view, rows = self.args.mi_view, self._mi_rows()
        (samples_s, valid), (samples_t, _) = student[view], teacher[view]
        if view == "tokens":
            samples_s, samples_t, valid = samples_s[:rows], samples_t[:rows], valid[:rows]
        if self.args.mi_gather:
            samples_t, _ = gather_samples(samples_t, valid, rows)
            samples_s, valid = gather_samples(samples_s, valid, rows)
        return mutual_information_loss(
            samples_s, samples_t, mask=_unless_all(valid), log=self.args.mi_log
        )

    def _mi_rows(self) -> int:
        """Samples of this process in the MI loss, at most."""
        if self.args.mi_view == "pooled":
            return self.args.per_device_train_batch_size
        return self.args.mi_max_samples // (world_size() if self.args.mi_gather else 1)


def _unless_all(valid: Tensor) -> Tensor | None:
    """The mask, or None where every sample counts: applying it costs a CPU more than a reduction does.

    A GPU would have to be waited for, so there the mask stays.
    """
    return None if valid.device.type == "cpu" and bool(valid.all()) else valid
