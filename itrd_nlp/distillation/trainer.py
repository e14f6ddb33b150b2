"""`ITRDTrainer`: `transformers.Trainer` with a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from itrd_nlp.distillation.arguments import (
    ITRDTrainingArguments,
    chosen_objective,
    scalar_objective,
)
from itrd_nlp.distillation.compatibility import Access, access_of, plan
from itrd_nlp.distillation.gradient_share import MEASURE_EVERY
from itrd_nlp.distillation.logit_kd import ProblemType, classes_last, mean_logits, problem_type_of
from itrd_nlp.distillation.model import DistillationModel
from itrd_nlp.distillation.objective import ITRDObjective
from itrd_nlp.distillation.preparing import (
    build_distillation_model,
    check_optimizer,
    checked_arguments,
    freeze_teacher,
    inputs_of,
)
from itrd_nlp.distillation.step import StepTotals, TermWatch, counts_of
from itrd_nlp.distillation.student_trainer import OBJECTIVE_WEIGHTS_NAME, StudentTrainer
from itrd_nlp.distillation.task_losses import TaskLosses
from itrd_nlp.distillation.teacher import Teacher
from itrd_nlp.losses.correlation import mean_correlation
from itrd_nlp.losses.outputs import SPAN_LOGITS, EncoderOutput
from itrd_nlp.models.adaptor import Adaptor
from itrd_nlp.models.lengths import check_datasets
from itrd_nlp.training.identity import weights_digest
from itrd_nlp.training.progress import Progress
from itrd_nlp.training.record import ModelRecord, RunRecord
from itrd_nlp.training.results import size
from itrd_nlp.training.resuming import named_arguments

__all__ = ["OBJECTIVE_WEIGHTS_NAME", "ITRDTrainer"]

# The first checkpoints had no entries for these. Their defaults count as None, so that both are equal.
_LATER_ARGUMENTS = ("peer_losses", "warm_start_ratio", "fade_ratio", "hidden_share", "weight_bits")


class ITRDTrainer(StudentTrainer):
    """A trainer that distils a teacher into a student: logit KD, correlation, mutual information and the task loss.

    Use it as ``transformers.Trainer``. It saves and pushes the student alone, which loads without this package. The
    projections are in ``trainer.model.objective`` and in checkpoints only.

    Args:
        model: the student, any model of transformers with a head that returns logits and hidden states: of tokens, of
            images or of sound. Another ``PreTrainedModel`` needs ``student_adaptor``. None with ``model_init``, a
            function that makes it.
        teacher: a fine-tuned model with a head of the same kind, frozen in place: build students from it before. It is
            cast to ``args.teacher_dtype``. It may be None if no term of the objective needs one.
        args: arguments of the training and the objective.
        more_teachers: further teachers, treated likewise. KD then learns from the mean of all predictions. Hidden
            states are those of ``teacher``. Default: none.
        student_adaptor: a function that reads a student of another kind, see `itrd_nlp.models.adaptor`. The function
            gets all columns of the data set, of whatever kind it is. Default: the student is read as a model of
            transformers.
        teacher_adaptor: likewise for the teachers, which may then be any ``torch.nn.Module``.
        losses: the task loss and the KD of a task that has its own, see `itrd_nlp.distillation.task_losses`. Default:
            None, the student's head has a task loss, and its logits say how KD compares them.
        **kwargs: arguments of ``transformers.Trainer``.

    Raises:
        UserError: student and teacher do not fit each other, or the layer map names a layer that does not exist; the
            student cannot be trained or saved as a whole; an argument is missing or would do nothing.

    Example:
        >>> trainer = ITRDTrainer(model=student, teacher=teacher, args=args, train_dataset=features)
        >>> trainer.train()
        >>> trainer.save_model("my-student")
    """

    args: ITRDTrainingArguments

    @staticmethod
    def named(arguments: dict[str, Any]) -> dict[str, Any]:
        """See `named_arguments`. The first checkpoints had no entry for ``corr_log`` either, whose default is true."""
        later = {name: arguments[name] or None for name in _LATER_ARGUMENTS}
        corr_log = None if arguments["corr_log"] else False
        return named_arguments(arguments) | later | {"corr_log": corr_log}

    def __init__(
        self,
        model: nn.Module | None = None,
        teacher: nn.Module | None = None,
        args: ITRDTrainingArguments | None = None,
        more_teachers: Sequence[nn.Module] = (),
        student_adaptor: Adaptor | None = None,
        teacher_adaptor: Adaptor | None = None,
        losses: TaskLosses | None = None,
        **kwargs: Any,
    ) -> None:
        args = checked_arguments(model, args, kwargs)
        self.args, self.teacher, self.more_teachers = args, teacher, list(more_teachers)
        self.teacher_adaptor = teacher_adaptor
        self._access = access_of(student_adaptor, teacher_adaptor, kwargs, losses)
        check_datasets((model, teacher, *more_teachers), kwargs)
        wrapped = None if model is None else self._build_model(model)
        if model is not None and not args.needs_teacher:  # a trial of a search may need one
            self.teacher = None
        super().__init__(model=wrapped, args=args, **kwargs)
        check_optimizer(self.optimizer, self._distillation_model().objective)
        self.loss_is_scaled_for_ga = True  # BatchShare scales it
        self.teacher = None if self.teacher is None else freeze_teacher(self.teacher, args)
        self.more_teachers = [freeze_teacher(other, args) for other in more_teachers]
        self._run_teachers: list[Teacher] = []
        self._watch = TermWatch()

    def call_model_init(self, trial: Any = None) -> DistillationModel:
        """Return a new student, with an objective that fits the arguments, those of a trial included."""
        made = super().call_model_init(trial)
        return made if isinstance(made, DistillationModel) else self._build_model(made)

    def _build_model(self, student: Any) -> DistillationModel:
        return build_distillation_model(
            student, self.teacher, self.args, self.more_teachers, self._access
        )

    @staticmethod
    def check_models(
        student: PreTrainedModel,
        teacher: nn.Module,
        args: ITRDTrainingArguments,
        more_teachers: Sequence[nn.Module] = (),
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        """Refuse models that do not fit the objective or each other, before any work begins.

        Raises:
            UserError: see `itrd_nlp.distillation.compatibility.plan`.
        """
        plan(student, teacher, args, more_teachers, Access(tokenizer=tokenizer))

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the columns that a teacher reads, too. Each model gets its own part of a batch; see `own_inputs`."""
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            assert self._signature_columns is not None
            # Which tokens are padding must be known even where no model reads it.
            read = inputs_of(self.teacher, *self.more_teachers)
            self._signature_columns += ["attention_mask", *read]

    def known_record(self) -> RunRecord:
        """See `HubTrainer.known_record`. The objective, the layer pairs and the teachers are added."""
        record = super().known_record()
        record.objective = scalar_objective(self.args)
        record.arguments |= chosen_objective(self.args)
        record.layer_pairs = [str(pair) for pair in self._distillation_model().objective.pairs]
        record.teacher = None if self.teacher is None else _known_of(self.teacher)
        record.more_teachers = [_known_of(other) for other in self.more_teachers]
        return record

    # ---- the training step ----

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Fetch the micro-batches of an optimizer step and count what they hold, over all processes.

        The counts take the place of transformers' ``num_items_in_batch``, which knows only ``labels``.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:  # the end of a pass over a stream
            return batches, None
        self._watch.steps += 1
        totals = self._counts(batches).to(device)
        if self.args.world_size > 1:
            totals = self.accelerator.reduce(totals, reduction="sum")
        return batches, StepTotals(totals, len(batches), self.args.world_size, self._access.losses)

    def _counts(self, batches: list[Any]) -> Tensor:
        return torch.stack([counts_of(batch, self._access.losses) for batch in batches]).sum(dim=0)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Run the teacher, and then student and objective through the wrapped model.

        In evaluation only the student runs, and the loss is its task loss.
        """
        if not isinstance(num_items_in_batch, StepTotals):
            return super().compute_loss(model, inputs, return_outputs, None)
        teacher_output = self._teacher_output(inputs) if self._run_teachers else None
        share = num_items_in_batch.share(
            inputs, measure=self.state.global_step % MEASURE_EVERY == 0
        )
        done, fade = self.state.global_step / self.state.max_steps, self.args.fade_ratio
        if done < self.args.warm_start_ratio:
            # A number would be copied to the device, which waits for it.
            share = dataclasses.replace(share, task=share.task * 0, logits=0.0, tokens=0.0)
        if done > 1 - fade:
            share = dataclasses.replace(share, fade=(1 - done) / fade)
        terms = model(teacher_output=teacher_output, share=share, **inputs)
        loss = terms.pop("loss")
        self._watch.add(terms, self.state.global_step + 1)
        return (loss, terms) if return_outputs else loss

    def _run(self, teacher: nn.Module, layers: Sequence[int]) -> Teacher:
        return Teacher(teacher, layers, self.args, self.train_dataset, self.teacher_adaptor)

    def _teacher_output(self, inputs: dict[str, Any]) -> EncoderOutput:
        labels = inputs.get("labels")
        inputs = {name: value for name, value in inputs.items() if name not in self.label_names}
        outputs = [run(inputs) for run in self._run_teachers]
        problem_type = problem_type_of(self._student_config, labels, outputs[0].logits)
        mask = inputs.get("attention_mask")
        return _together(outputs, problem_type, mask, temperature=self.args.temperature)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every term since the last log, by one transfer from the device for all of them.

        Raises:
            TrainingDiverged: a term was NaN or infinite.
        """
        if "loss" in logs and self._watch.steps:
            self._watch.check()
            means = self._watch.means(self.args.parallel_mode)
            logs = logs | means | _correlations(means, self._distillation_model().objective)
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._watch.check()  # weights made of NaN must not become the last good checkpoint
        super()._save_checkpoint(model, trial)

    def prepare(self, trial: Any = None) -> None:
        """See `FreshModelTrainer.prepare`. It opens the teachers and their caches, too."""
        super().prepare(trial)
        self._watch, self._run_teachers = TermWatch(), []
        model = self._distillation_model()
        self._student_config = model.config  # unwrapping takes a while, so not in every step
        if self.teacher is not None and self.args.needs_teacher:
            layers = [pair.teacher for pair in model.objective.pairs]
            self._run_teachers = [
                self._run(self.teacher, layers),
                *(self._run(other, []) for other in self.more_teachers),
            ]

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """See `ResumingTrainer.train`.

        Raises:
            TrainingDiverged: a term was NaN or infinite; the checkpoints before are as they were.
        """
        output = super().train(*args, **kwargs)
        self._watch.check()
        return output

    def loss_of_a_step(self, inputs: dict[str, Any]) -> Tensor:
        """See `BaseTrainer.loss_of_a_step`. The log does not count it."""
        watch, self._watch = self._watch, TermWatch()
        try:
            totals = StepTotals(self._counts([inputs]), 1, 1, self._access.losses)
            loss: Tensor = self.compute_loss(self.network, inputs, num_items_in_batch=totals)
            return loss
        finally:
            self._watch = watch

    def identity(self) -> dict[str, Any]:
        """See `ResumingTrainer.identity`. It has the weights of the teachers and the layer pairs, too."""
        identity = super().identity()
        # The layer pairs stand for the two arguments that say how they are found.
        del identity["layer_map"], identity["include_embeddings"]
        pairs = self._distillation_model().objective.pairs
        return {
            **identity,
            "label_names": self.label_names,  # that were found, where none are given
            "layer_pairs": [str(pair) for pair in pairs],
            "teacher": weights_digest(self.teacher) if self.teacher is not None else None,
            "more_teachers": [weights_digest(other) for other in self.more_teachers] or None,
            "student_adaptor": _name_of(self._distillation_model().adaptor),
            "teacher_adaptor": _name_of(self.teacher_adaptor),
            "losses": None if self._access.losses is None else repr(self._access.losses),
        }

    def progress(self, before: Progress) -> Progress:
        """See `ResumingTrainer.progress`. It has the sums of the terms, too."""
        terms = self._watch.pending(self.args.parallel_mode)
        return dataclasses.replace(super().progress(before), terms=terms)

    def restore_progress(self, before: Progress) -> None:
        """See `ResumingTrainer.restore_progress`. It continues the sums of the terms, too."""
        super().restore_progress(before)
        self._watch = TermWatch()  # auto_find_batch_size begins twice
        self._watch.restore(before.terms, self.args.device)


def _correlations(means: dict[str, float], objective: ITRDObjective) -> dict[str, float]:
    """Return the mean correlation of each layer pair, which tells a reader more than the mean of its loss does."""
    args = objective.args
    return {
        f"correlation_{pair}": mean_correlation(
            means[f"corr_{pair}"], width, alpha=args.alpha, log=args.corr_log
        )
        for pair, (_, width) in zip(objective.pairs, objective.widths, strict=True)
        if f"corr_{pair}" in means
    }


def _together(
    outputs: Sequence[EncoderOutput],
    problem_type: ProblemType,
    mask: Tensor | None,
    *,
    temperature: float,
) -> EncoderOutput:
    """Return the output of the first teacher, with the logits that all teachers predict together."""
    first, *others = outputs
    if not others:
        return first
    logits = {}
    for name, value in first.logits.items():
        together = mean_logits(
            [classes_last(one) for one in (value, *(other.logits[name] for other in others))],
            problem_type,
            temperature=temperature,
            class_mask=mask if name in SPAN_LOGITS else None,
        )
        logits[name] = together.movedim(-1, 1) if value.dim() == 4 else together
    return dataclasses.replace(first, logits=logits)


def _known_of(teacher: nn.Module) -> ModelRecord:
    """Return the record of a teacher that nobody has judged."""
    path = getattr(teacher, "name_or_path", None)
    layers = getattr(getattr(teacher, "config", None), "num_hidden_layers", None)
    return ModelRecord(name=Path(path).name if path else None, layers=layers, **size(teacher))


def _name_of(adaptor: Adaptor | None) -> str | None:
    """Return the name of a user's function, for the identity of a run."""
    return None if adaptor is None else getattr(adaptor, "__qualname__", type(adaptor).__qualname__)
