"""The bookkeeping of an optimizer step: its loss terms, and the share of each micro-batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers.trainer_pt_utils import nested_gather

from itrd_nlp.distillation.distributed import world_size
from itrd_nlp.distillation.objective import BatchShare
from itrd_nlp.distillation.task_losses import ItemCounts, TaskLosses
from itrd_nlp.errors import TrainingDiverged
from itrd_nlp.losses.outputs import IGNORED
from itrd_nlp.models.masked_lm import POSITIONS


class TermWatch:
    """Sums of the loss terms on their device, and the first step in which each one was not a finite number.

    Only `means`, `pending` and `check` read from the device, so training does not wait for a GPU in every step.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.names: list[str] = []
        self.sums: Tensor | None = None
        # The first step in which a term was not finite. It is 0 for a term that always was.
        self.bad_since: Tensor | None = None

    def add(self, terms: dict[str, Tensor], step: int) -> None:
        """Add the terms of a micro-batch of optimizer step `step` (counted from 1)."""
        values = torch.stack([value.detach().float() for value in terms.values()])
        if self.bad_since is None:
            self.names = list(terms)
            self.bad_since = torch.zeros_like(values)
        self.sums = values if self.sums is None else self.sums + values
        first = (self.bad_since == 0) & ~values.isfinite()
        self.bad_since = torch.where(first, step, self.bad_since)

    def means(self, parallel_mode: Any) -> dict[str, float]:
        """Return the mean of every term per optimizer step since the last call, over all processes."""
        means = (self._over_processes(parallel_mode) / self.steps).tolist()
        self.sums, self.steps = None, 0
        return dict(zip(self.names, means, strict=True))

    def pending(self, parallel_mode: Any) -> dict[str, Any]:
        """Return the sums since the last call of `means`, averaged over all processes, as JSON can hold them."""
        if self.sums is None:
            return {}
        sums = self._over_processes(parallel_mode).tolist()
        return {"steps": self.steps, "sums": dict(zip(self.names, sums, strict=True))}

    def restore(self, pending: dict[str, Any], device: torch.device) -> None:
        """Continue the sums that `pending` gave."""
        if pending:
            self.steps, self.names = pending["steps"], list(pending["sums"])
            self.sums = torch.tensor(list(pending["sums"].values()), device=device)
            self.bad_since = torch.zeros_like(self.sums)

    def _over_processes(self, parallel_mode: Any) -> Tensor:
        """Return the mean of each sum over all processes ``(terms,)``."""
        assert self.sums is not None
        gathered: Tensor = nested_gather(self.sums[None], parallel_mode)
        return gathered.reshape(-1, len(self.names)).mean(dim=0)

    def check(self) -> None:
        """Stop the training if a term was NaN or infinite since it began.

        Raises:
            TrainingDiverged: names the terms that were first.
        """
        if self.bad_since is None:
            return
        since = torch.where(self.bad_since > 0, self.bad_since, torch.inf)
        if world_size() > 1:  # a term may be bad on one process alone; all must stop
            dist.all_reduce(since, op=dist.ReduceOp.MIN)
        steps = since.tolist()
        step = min(steps)
        if step == float("inf"):
            return
        bad = [name for name, first in zip(self.names, steps, strict=True) if first == step]
        pairs = [name for name in bad if ":" in name]
        raise TrainingDiverged(
            f"the loss term {' and '.join(pairs or bad)} was NaN or infinite in step {step:.0f}; checkpoints written "
            "before are as they were. The usual remedies are a lower learning rate, and bf16 in place of fp16."
        )


class StepTotals:
    """The labels, rows and tokens in the micro-batches of one optimizer step, over all processes.

    Args:
        counts: ``(3,)``, see `counts_of`.
        micro_batches: micro-batches of this process.
        world_size: number of processes. Gradients are averaged over them, so shares have it as a factor.
        losses: the losses of a task that has its own. Default: None.
    """

    def __init__(
        self,
        counts: Tensor,
        micro_batches: int,
        world_size: int,
        losses: TaskLosses | None = None,
    ) -> None:
        self.counts = counts
        self.micro_batches = micro_batches
        self.world_size = world_size
        self.losses = losses

    def share(self, inputs: dict[str, Any], *, measure: bool = False) -> BatchShare:
        """Return the share of one micro-batch, see `BatchShare` for ``measure``."""
        counts = self.counts.clamp(min=1)  # a step without labels has no task loss
        own = counts_of(inputs, self.losses).to(counts.device)
        task, logits, tokens = own / counts * self.world_size
        return BatchShare(
            task=task,
            logits=task if POSITIONS in inputs else logits,  # the labelled tokens alone have logits
            tokens=tokens,
            batch=1.0 / self.micro_batches,
            measure=measure,
        )


def counts_of(batch: dict[str, Any], losses: TaskLosses | None = None) -> Tensor:
    """Count the items that the losses of a micro-batch average.

    Args:
        batch: the micro-batch with its labels.
        losses: the losses of a task that has its own. Default: None.

    Returns:
        ``(3,)`` on the device of the batch: labels for the task loss, rows for KD, and valid tokens. `ItemCounts`
        says the first two itself.
    """
    first = next(value for value in batch.values() if isinstance(value, torch.Tensor))
    # torch.tensor would copy a number to the device and wait for it.
    rows = torch.full((), len(first), device=first.device)
    targets = batch.get("labels", batch.get("start_positions"))
    labels = targets.ne(IGNORED).sum() if targets is not None else rows
    tokens = batch["attention_mask"].sum() if "attention_mask" in batch else rows
    if isinstance(losses, ItemCounts) and targets is not None:
        labels, rows = losses.task_count(targets), losses.kd_count(batch)
    return torch.stack([labels, rows, tokens]).float()
