"""`ResumingTrainer`: it resumes from a checkpoint of its own run alone, and reports the whole run."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sized
from dataclasses import fields
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import TrainerControl
from transformers.trainer_pt_utils import AcceleratorConfig, nested_gather
from transformers.trainer_utils import TrainOutput

from itrd_nlp.errors import UserError
from itrd_nlp.training.arguments import FineTuningArguments, output_folder
from itrd_nlp.training.checkpoints import damage
from itrd_nlp.training.fresh_model import FreshModelTrainer
from itrd_nlp.training.identity import (
    VERSION,
    check_identity,
    data_digest,
    sampled_digest,
    weights_digest,
)
from itrd_nlp.training.output_dir import (
    check_checkpoints,
    find_checkpoint,
    locked,
    remove_checkpoints,
)
from itrd_nlp.training.precision import PRECISIONS
from itrd_nlp.training.progress import Progress, metrics_of_the_whole
from itrd_nlp.training.roles import CHOOSING, Role, default_of, names_of

logger = logging.getLogger(__name__)

# From a model to the digest of its weights at the start of its last training in this process that began anew.
_initial: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def named_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments, those of a run or their defaults, as the identity names them."""
    switches = ("activation_checkpointing", "gradient_checkpointing")  # None is false
    same = {name: bool(arguments[name]) for name in switches if name in arguments}
    return arguments | same | {"accelerator_config": _reading(arguments["accelerator_config"])}


class ResumingTrainer(FreshModelTrainer):
    """`transformers.Trainer` that resumes from a checkpoint of its own run only, and then reports the whole run.

    It holds `output_dir` while it trains; see `itrd_nlp.training.output_dir`.

    Attributes:
        train_seconds: wall time of the whole training in seconds. It is None before the end of `train`, and if the
            training was resumed from a checkpoint without a `Progress`.
        train_loss: mean loss of all steps. It is None in the same cases.
    """

    train_seconds: float | None = None
    train_loss: float | None = None
    _identity: dict[str, Any]
    named = staticmethod(named_arguments)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped_steps = 0
        # The progress of the checkpoint that the training was resumed from. None: that one recorded none.
        self._before: Progress | None = Progress(seconds=0.0)
        self._best: Path | None = None
        self._resumes = False
        self._began = 0.0
        self.add_callback(_Follow(self))

    # ---- identity ----

    @property
    def precision(self) -> str:
        """The precision that the training runs in: ``fp32``, ``bf16``, ``fp16`` or ``fp8``."""
        return PRECISIONS[self.accelerator.mixed_precision]

    def identity(self) -> dict[str, Any]:
        """Return all that a checkpoint and the run that resumes from it must have in common.

        It holds every argument that changes the weights, the weights before the first step, the data and the precision.

        Returns:
            Values that JSON can hold. Digests stand for data and weights.
        """
        args, config = self.args, self.accelerator.unwrap_model(self.model).config
        # `precision` stands for these, because it is what really runs.
        names = names_of(type(args), Role.EXPERIMENT, Role.OBJECTIVE)
        names -= {"bf16", "fp16", "emulate_bf16"}
        chooses = args.load_best_model_at_end or args.lr_scheduler_type == "reduce_lr_on_plateau"
        if chooses:
            names |= set(CHOOSING)
        return {
            "version": VERSION,
            **self.named({name: getattr(args, name) for name in sorted(names)}),
            "precision": self.precision,
            "processes": args.world_size,
            "train_dataset": _digest(self.train_dataset),
            "eval_dataset": _digest(self.eval_dataset) if chooses else None,
            "initial_weights": self._initial_weights(),
            "dropout": {k: v for k, v in config.to_dict().items() if "drop" in k},
            "attn_implementation": config._attn_implementation,
            "compute_loss_func": _name_of_loss(self.compute_loss_func),
        }

    @property
    def learner(self) -> nn.Module:
        """The model that learns, without wrappers."""
        learner: nn.Module = self.accelerator.unwrap_model(self.model)
        return learner

    def _initial_weights(self) -> str | None:
        """Return a digest of the weights before the first step. It is None if `model_init` makes them."""
        if self.model_init is not None:
            return None
        # A model that was interrupted in this process is not at its beginning any more.
        known = _initial.get(self.learner) if self._resumes else None
        return known or weights_digest(self.learner)

    def _agreed_identity(self) -> dict[str, Any]:
        """Return the identity that process zero finds. All processes take it.

        Raises:
            UserError: the processes do not run in one precision.
        """
        found = gather_object([self.precision])
        if len(set(found)) > 1:
            raise UserError(
                f"the processes would train in different precisions ({', '.join(found)}), because not all of their "
                "CPUs have instructions for bf16; set bf16 to false, or emulate_bf16 to true."
            )
        holder = [self.identity() if self.args.process_index == 0 else None]
        agreed: dict[str, Any] = broadcast_object_list(holder)[0]
        return agreed

    def _check_identity(self, checkpoint: Path) -> None:
        group = type(self.args)
        sized = isinstance(self.train_dataset, Sized)
        check_identity(
            checkpoint,
            self._identity,
            defaults=self.named({f.name: default_of(f) for f in fields(group)}),
            objective=names_of(group, Role.OBJECTIVE),
            version_1={
                "train_dataset": sampled_digest(self.train_dataset) if sized else None,
            },
        )

    # ---- training ----

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as `transformers.Trainer.train` does.

        Args:
            resume_from_checkpoint: a checkpoint, or True (or "true") for the newest whole one of `output_dir`. Default:
                the argument of the same name among ``args``; None there starts anew.
            trial: the trial of `hyperparameter_search`. It trains in a folder of its own. Default: none.
            ignore_keys_for_eval: names of outputs that an evaluation meanwhile does not gather. Default: none.

        Returns:
            Steps, mean loss and metrics of the whole training, its earlier parts included.

        Raises:
            UserError: the checkpoint is damaged or belongs to another run, `output_dir` is in use or holds checkpoints
                of an earlier run, or the best checkpoint is damaged.
            TrainingInterrupted: a signal came, and a checkpoint is saved.
        """
        if resume_from_checkpoint is None and trial is None:
            resume_from_checkpoint = self.args.resume_from_checkpoint
        self.prepare(trial)
        folder = Path(self._get_output_dir(trial))
        with self.hold_folder(resume_from_checkpoint, folder) as checkpoint:
            if checkpoint is not None:
                logger.info("Resuming from %s.", checkpoint)
            taken = None if checkpoint is None else str(checkpoint)
            output = super().train(taken, trial, ignore_keys_for_eval)
            if self._before is not None:
                self.train_loss = self._total_loss_scalar / max(self.state.global_step, 1)
                logged = self.state.log_history[-1]  # of the whole, unlike the output
                metrics = {name: logged.get(name, value) for name, value in output.metrics.items()}
                output = TrainOutput(output.global_step, self.train_loss, metrics)
            return output

    @contextlib.contextmanager
    def hold_folder(
        self, wanted: str | bool | None, folder: Path | None = None
    ) -> Iterator[Path | None]:
        """Hold the folder of one training, and measure its time.

        Args:
            wanted: see `train`.
            folder: the folder. Default: `output_dir`.

        Yields:
            The checkpoint to resume from, or None to start anew.
        """
        args = self.args
        folder = folder or output_folder(args)
        overwrite = isinstance(args, FineTuningArguments) and args.overwrite_output_dir
        with locked(folder) if args.process_index == 0 else contextlib.nullcontext():
            checkpoint = find_checkpoint(folder, wanted)
            check_checkpoints(folder, checkpoint, overwrite=overwrite)
            self._resumes = checkpoint is not None
            self._identity = self._agreed_identity()
            if checkpoint is None and self.model_init is None:
                _initial[self.learner] = self._identity["initial_weights"]
            self._before, self._best = Progress(seconds=0.0), None
            if checkpoint is not None:
                self._check_identity(checkpoint)
                self._before = Progress.read(checkpoint)
                self._best = self._best_of(checkpoint)
            self.accelerator.wait_for_everyone()  # until all have looked at the folder
            if overwrite and args.process_index == 0:
                remove_checkpoints(folder)
            # Digests of data and weights are no part of the training.
            self._began = time.perf_counter()
            yield checkpoint
            if self._before is not None:
                self.train_seconds = self._seconds(self._before)

    def _seconds(self, before: Progress) -> float:
        return before.seconds + time.perf_counter() - self._began

    def _best_of(self, checkpoint: Path) -> Path | None:
        """Return the best checkpoint that a checkpoint names. It is None unless the training ends with it.

        Raises:
            UserError: it is damaged.
        """
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if not self.args.load_best_model_at_end or state.best_model_checkpoint is None:
            return None
        recorded = Path(state.best_model_checkpoint)
        beside = checkpoint.parent / recorded.name  # the folder may have moved since
        best = beside if beside.is_dir() else recorded
        _require_best(best)
        return best

    def _checked_best_checkpoint(self) -> Path:
        """Return the best checkpoint, and refuse a damaged one."""
        assert self.state.best_model_checkpoint is not None
        best = Path(self.state.best_model_checkpoint)
        _require_best(best)
        return best

    def _load_best_model(self) -> None:
        self._checked_best_checkpoint()
        super()._load_best_model()

    # ---- progress ----

    def progress(self, before: Progress) -> Progress:
        """Return the progress up to now, for a checkpoint. All processes call this together.

        Args:
            before: progress of the checkpoint that the training was resumed from.
        """
        loss = nested_gather(self._tr_loss, self.args.parallel_mode).mean()
        return Progress(
            seconds=self._seconds(before),
            loss=self._total_loss_scalar,
            loss_since_log=loss.item(),
            last_logged=self._globalstep_last_logged,
            skipped_steps=self.skipped_steps,
        )

    def restore_progress(self, before: Progress) -> None:
        """Continue the sums of a checkpoint. transformers has just set its own to 0."""
        self._total_loss_scalar = before.loss
        self._tr_loss.fill_(before.loss_since_log)
        self._globalstep_last_logged = before.last_logged
        self.skipped_steps = before.skipped_steps

    # ---- log ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a row. With fp16 it counts skipped steps, and the last row of a resumed training is of the whole."""
        if self.args.fp16 and "loss" in logs:
            logs = logs | {"skipped_steps": float(self.skipped_steps)}
        if "train_loss" in logs and self._before is not None and self._before.seconds > 0:
            steps = self.state.global_step
            logs = logs | metrics_of_the_whole(
                logs,
                loss=self._total_loss_scalar,
                seconds=self._seconds(self._before),
                steps=steps,
                part=steps - self._initial_global_step,
            )
        super().log(logs, start_time)


class _Follow(TrainerCallback):
    """Continues the sums of a checkpoint, and counts the steps that the fp16 scaler skips."""

    def __init__(self, trainer: ResumingTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> TrainerControl | None:
        trainer = self.trainer
        if trainer._best is not None:  # transformers drops it where the folder has moved
            trainer.state.best_model_checkpoint = str(trainer._best)
        if trainer._before is not None:
            trainer.restore_progress(trainer._before)
        return None

    def on_optimizer_step(self, *_: Any, **__: Any) -> TrainerControl | None:
        self.trainer.skipped_steps += self.trainer.accelerator.optimizer_step_was_skipped
        return None


def _name_of_loss(function: Any) -> str | None:
    """Return the name of a user's loss, or the options of a loss that is an object. It is None if there is none."""
    return None if function is None else getattr(function, "__qualname__", repr(function))


def _reading(accelerator_config: Any) -> dict[str, Any]:
    """How batches are read. Whether a copy to the device waits depends on the machine and changes no batch."""
    reading = accelerator_config or AcceleratorConfig()
    left_out = ("non_blocking", "use_configured_state")  # a trainer removes the second one
    return {k: v for k, v in reading.to_dict().items() if k not in left_out}


def _digest(dataset: Any) -> Any:
    """Return a digest of a data set, or of each one in a dict. It is None if rows can be read only once."""
    if isinstance(dataset, dict):
        return {name: _digest(part) for name, part in dataset.items()}
    return data_digest(dataset) if isinstance(dataset, Sized) else None


def _require_best(folder: Path) -> None:
    reason = damage(folder)
    if reason is not None:
        raise UserError(
            f"the best checkpoint {folder} cannot be used: {reason}; the other checkpoints of this training are as "
            "they were. Restore it from a copy, or start anew with --overwrite_output_dir true."
        )
