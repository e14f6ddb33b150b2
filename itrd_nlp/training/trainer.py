"""What every training of this package needs of `transformers.Trainer`, with or without a teacher."""

from __future__ import annotations

import logging
import shutil
import stat
from collections.abc import Sized
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerControl
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints
from transformers.utils import CONFIG_NAME

from itrd_nlp.errors import UserError
from itrd_nlp.files import replace_folder, writing
from itrd_nlp.training.checkpoints import (
    STAGING_NAME,
    damage,
    last_good_checkpoint,
    seal,
)
from itrd_nlp.training.identity import check_identity, data_digest, write_identity
from itrd_nlp.training.sampler import LengthGroupedSampler
from itrd_nlp.training.secrets import hide_secrets
from itrd_nlp.training.signals import StopOnSignal

logger = logging.getLogger(__name__)


class BaseTrainer(Trainer):
    """`transformers.Trainer` for runs that are long and machines that die.

    - Training batches are grouped by length in an order of their own seed; evaluation keeps the order of the data
      set. (transformers shuffles the evaluation set too when it groups by length; predictions would then not line
      up with the examples they belong to.)
    - A checkpoint is written aside, sealed with sizes and hashes, and renamed. A kill at any moment leaves the ones
      before as they were.
    - `train(resume_from_checkpoint=True)` takes the newest whole checkpoint of `output_dir`, or starts anew where
      there is none. A checkpoint of other data, or of another objective, is refused.
    - SIGTERM and SIGINT save a checkpoint and raise `TrainingInterrupted`.
    - No token is in training_args.bin, which lies beside every model and checkpoint.
    - With fp16 the log counts the steps that the gradient scaler skipped, as `skipped_steps`.
    """

    _staging: Path | None = None
    _sampler: LengthGroupedSampler | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hide_secrets(self.args)  # which are pickled into training_args.bin
        self.add_callback(StopOnSignal())
        self.skipped_steps = 0
        self.add_callback(_CountSkippedSteps(self))

    # ---- data ----

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        args = self.args
        columns = getattr(self.train_dataset, "column_names", None) or []
        if (
            args.train_sampling_strategy != "group_by_length"
            or args.length_column_name not in columns
        ):
            return super()._get_train_sampler(train_dataset)
        self._sampler = LengthGroupedSampler(
            list(self.train_dataset[args.length_column_name]),
            args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            args.seed if args.data_seed is None else args.data_seed,
        )
        return self._sampler

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # accelerate's set_epoch does not reach the sampler through the wrappers of a resumed, sharded data loader.
        if self._sampler is not None:
            self._sampler.set_epoch(kwargs["epoch"])
        super()._run_epoch(*args, **kwargs)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    # ---- checkpoints ----

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the run that resumes from it. Values that JSON can hold."""
        args = self.args
        known_length = isinstance(self.train_dataset, Sized)
        return {
            "train_dataset": data_digest(self.train_dataset) if known_length else None,
            "seed": args.seed,
            "per_device_train_batch_size": args.per_device_train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "processes": args.world_size,
        }

    def assumed_identity(self) -> dict[str, Any]:
        """The identity of a checkpoint in those values that it does not record."""
        return {}

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """See `transformers.Trainer.train`.

        Args:
            resume_from_checkpoint: a checkpoint, or True (or "true") for the newest whole one of `output_dir`.
            **kwargs: as there.

        Raises:
            UserError: the checkpoint is damaged or belongs to another run.
            TrainingInterrupted: a signal came; a checkpoint is saved.
        """
        checkpoint = self._find_checkpoint(resume_from_checkpoint)
        self._identity = self.identity()
        if checkpoint is not None:
            check_identity(checkpoint, self._identity, self.assumed_identity())
            logger.info("Resuming from %s.", checkpoint)
        return super().train(str(checkpoint) if checkpoint is not None else None, **kwargs)

    def _find_checkpoint(self, wanted: str | bool | None) -> Path | None:
        if wanted in (None, False, "false", "False"):
            return None
        output_dir = Path(self.args.output_dir)
        if wanted in (True, "true", "True"):
            found = last_good_checkpoint(output_dir)
            if found is None:
                logger.warning("%s holds no checkpoint to resume from; starting anew.", output_dir)
            return found
        path = Path(str(wanted))
        if not path.exists():
            raise UserError(f"resume_from_checkpoint {path} does not exist.")
        reason = damage(path)
        if reason is not None:
            raise UserError(
                f"resume_from_checkpoint {path} is damaged: {reason}; --resume_from_checkpoint true takes the newest "
                "whole one."
            )
        return path

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """See `transformers.Trainer.save_model`. Whoever may read the configuration may read the weights."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            _share_weights(Path(output_dir or self.args.output_dir))

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Let the base class write into a folder aside; seal and rename what it wrote."""
        run_dir = Path(self._get_output_dir(trial))
        final = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staging = run_dir / STAGING_NAME
        staged = staging / final.name
        try:
            with writing(final, "Checkpoints written before are as they were."):
                if self.args.should_save:
                    shutil.rmtree(staging, ignore_errors=True)
                    staged.mkdir(parents=True)
                self.accelerator.wait_for_everyone()
                self._staging = staging
                super()._save_checkpoint(model, trial)
                self._staging = None
                if self.state.best_model_checkpoint == str(staged):
                    self.state.best_model_checkpoint = str(final)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    self.state.save_to_json(str(staged / "trainer_state.json"))
                    write_identity(staged, self._identity)
                    _share_weights(staged)
                    seal(staged)
                    replace_folder(staged, final)
                    rotate_checkpoints(
                        output_dir=str(run_dir),
                        save_total_limit=self.args.save_total_limit,
                        best_model_checkpoint=self.state.best_model_checkpoint,
                    )
        finally:
            self._staging = None
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    # ---- log ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the number of steps that the fp16 scaler skipped."""
        if self.args.fp16 and "loss" in logs:
            logs = logs | {"skipped_steps": float(self.skipped_steps)}
        super().log(logs, start_time)


def _share_weights(folder: Path) -> None:
    """Give weights, which safetensors writes for their owner alone, the mode of the configuration beside them."""
    config = folder / CONFIG_NAME
    if config.is_file():
        for path in folder.glob("*.safetensors"):
            path.chmod(stat.S_IMODE(config.stat().st_mode))


class _CountSkippedSteps(TrainerCallback):
    def __init__(self, trainer: BaseTrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(self, *_: Any, **__: Any) -> TrainerControl | None:
        self.trainer.skipped_steps += self.trainer.accelerator.optimizer_step_was_skipped
        return None
