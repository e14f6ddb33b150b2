"""`BaseTrainer`: `transformers.Trainer` for every training of this package, with or without a teacher."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import stat
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, unwrap_peft_model
from transformers.utils import CONFIG_NAME
from transformers.utils.generic import find_labels

from itrd_nlp.errors import UserError
from itrd_nlp.files import replace_folder, writing
from itrd_nlp.training.arguments import output_folder
from itrd_nlp.training.checkpoints import STAGING_NAME, own_names, rotate_checkpoints, seal
from itrd_nlp.training.epoch_end import EpochEndTrainer
from itrd_nlp.training.epochs import DrawsByEpoch
from itrd_nlp.training.generators import same_generators
from itrd_nlp.training.identity import write_identity
from itrd_nlp.training.log_lines import with_readable_lines
from itrd_nlp.training.sampler import LengthGroupedSampler
from itrd_nlp.training.secrets import hide_secrets
from itrd_nlp.training.shards import name_units
from itrd_nlp.training.unused_parameters import drops_layers, unused_parameters

logger = logging.getLogger(__name__)

STATES = (
    "hidden_states",
    "encoder_hidden_states",
    "decoder_hidden_states",
    "attentions",
    "encoder_attentions",
    "decoder_attentions",
    "cross_attentions",
    # The configurations of most decoders name them; those with a part for images, such as Gemma 3, do not.
    "encoder_last_hidden_state",
    "past_key_values",
)
"""Names of outputs that are no predictions."""


class BaseTrainer(EpochEndTrainer):
    """`transformers.Trainer` for long runs on machines that may die.

    - Training batches are grouped by length, in an order that depends on the seed alone. The evaluation keeps the order
      of the data set. transformers would shuffle it with the same option, and mix up the predictions.
    - A checkpoint is written aside, sealed with sizes and hashes, and renamed. A kill at any moment leaves the
      earlier ones as they were. The seal is checked whenever a checkpoint is read, the best one at the end included.
    - `train(resume_from_checkpoint=True)` takes the newest whole checkpoint of `output_dir`, or starts anew where
      there is none. A checkpoint of another run is refused; see `identity`.
    - A training that starts anew is refused in a folder with checkpoints, unless `overwrite_output_dir` removes them.
      A lock keeps a second training out of the folder.
    - Time, losses and history of a resumed training are those of the whole.
    - SIGTERM and SIGINT save a checkpoint and raise `TrainingInterrupted`.
    - The file training_args.bin, which lies beside every model and checkpoint, holds no token.
    - A row of the log is printed as one line; see `itrd_nlp.training.log_lines`.
    - With fp16 the log counts the steps that the gradient scaler skipped, as `skipped_steps`.
    - Several processes find out before the first step whether it leaves parameters without a gradient, and tell DDP.
    - An evaluation gathers predictions, and no hidden states or attentions that a configuration asks for. It leaves the
      weights and the generators of random numbers as they were, also with ``bf16_full_eval`` and ``fp16_full_eval``.
    - The model's own loss counts by its labels, and a `CountedLoss` by its items, however many micro-batches and
      processes share a step.
    """

    _staging: Path | None = None
    _sampler: LengthGroupedSampler | None = None
    neftune_hook_handle: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # transformers reads them from the signature of the model. A head may take its labels among other keywords, and
        # the learner may be a part of the model.
        found = find_labels(type(unwrap_peft_model(self.learner)))
        self.label_names = self.args.label_names or found or ["labels"]
        hide_secrets(self.args)  # transformers pickles them into training_args.bin
        self.callback_handler.callbacks = with_readable_lines(self.callback_handler.callbacks)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """See `EpochEndTrainer.train`. A training that is cut short leaves no noise behind."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if self.is_in_train:
                self.is_in_train = False
                if self.neftune_hook_handle is not None:
                    self.neftune_hook_handle.remove()

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """See `transformers.Trainer.create_optimizer`.

        Raises:
            UserError: the package of ``optim`` is not installed, or it needs other arguments.
        """
        try:
            return super().create_optimizer(model)
        except (ImportError, ValueError) as error:
            raise UserError(f"optim is {_name(self.args.optim)}, but: {error}") from None

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """See `transformers.Trainer.create_scheduler`.

        Raises:
            UserError: the schedule needs other ``lr_scheduler_kwargs``.
        """
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        except (TypeError, ValueError) as error:
            kind, options = _name(self.args.lr_scheduler_type), self.args.lr_scheduler_kwargs
            raise UserError(
                f"lr_scheduler_type is {kind} and lr_scheduler_kwargs is {options}, but: {error}."
            ) from None

    # ---- data ----

    @property
    def rows(self) -> Any:
        """The training data. transformers declares that there may be none, and no training has none."""
        return self.train_dataset

    @property
    def network(self) -> Any:
        """The model as the trainer holds it. transformers declares that there may be none before ``model_init``."""
        return self.model

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any] | None:
        args, data = self.args, self.rows
        columns = getattr(data, "column_names", None) or []
        if (
            args.train_sampling_strategy != "group_by_length"
            or args.length_column_name not in columns
        ):
            return super()._get_train_sampler(train_dataset)
        self._sampler = LengthGroupedSampler(
            list(data[args.length_column_name]),
            args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            args.seed if args.data_seed is None else args.data_seed,
        )
        return self._sampler

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # accelerate's set_epoch does not reach the sampler through the wrappers of a resumed, sharded data loader.
        if self._sampler is not None:
            self._sampler.set_epoch(kwargs["epoch"])
        if isinstance(self.data_collator, DrawsByEpoch):
            self.data_collator.begin_epoch(self.args.seed, kwargs["epoch"])
        base: Any = super()  # it has no annotations there
        base._run_epoch(*args, **kwargs)

    def _get_dataloader(self, *args: Any, is_training: bool = False, **kwargs: Any) -> Any:
        base: Any = super()
        if is_training:
            return base._get_dataloader(*args, is_training=True, **kwargs)
        # How an epoch ends says nothing about an evaluation: it takes all rows, in as many batches on each process.
        run, reading = self.args, self.accelerator.dataloader_config
        before = run.dataloader_drop_last, reading.even_batches
        run.dataloader_drop_last, reading.even_batches = False, True
        try:
            return base._get_dataloader(*args, **kwargs)
        finally:
            run.dataloader_drop_last, reading.even_batches = before

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[Any] | None:
        return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    # ---- steps ----

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        # An evaluation before the training has marked the model, and accelerate would not put it into DDP: each process
        # would train a model of its own.
        vars(self.network).pop("_is_accelerate_prepared", None)
        if self.is_fsdp_enabled:
            name_units(self.network, self.learner)
        handler = self.accelerator.ddp_handler
        unknown = self.args.ddp_find_unused_parameters is None and self.args.world_size > 1
        if unknown and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            found = torch.tensor([self._leaves_parameters_out()], device=self.args.device)
            handler.find_unused_parameters = bool(self.accelerator.gather(found).any())
        base: Any = super()
        return base._prepare_for_training(*args, **kwargs)

    def _leaves_parameters_out(self) -> bool:
        """Return whether a step of this process leaves trainable parameters without a gradient."""
        inputs = self._prepare_inputs(self._first_batch())
        model = self.network.train()

        def run() -> Tensor:
            with self.accelerator.autocast():  # as in a step: FlashAttention takes 16 bits alone
                return self.loss_of_a_step(inputs)

        unused = unused_parameters(model, run)
        if unused:
            logger.info("A step gives no gradient to %s.", ", ".join(unused))
        return bool(unused) or drops_layers(model.config)

    def _first_batch(self) -> Any:
        """Collate the first rows of the training data, as a data loader without shuffling would."""
        data, size = self.rows, self.args.per_device_train_batch_size
        if not self.streams:
            rows = [data[i] for i in range(min(size, len(data)))]
        else:
            rows = list(itertools.islice(iter(data), size))
        return self._get_collator_with_removed_columns(self.data_collator)(rows)

    def loss_of_a_step(self, inputs: dict[str, Any]) -> Tensor:
        """Return the loss of a step whose only micro-batch is this one. All processes call this together."""
        loss = self.compute_loss(self.network, inputs)
        assert isinstance(loss, Tensor)
        return loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """See `transformers.Trainer.evaluation_loop`. Weights that it rounds are put back.

        The generators of random numbers are put back, too: the iterator of a data loader draws from that of torch.
        """
        with _kept_weights(self.network), same_generators():
            return super().evaluation_loop(*args, **kwargs)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """See `transformers.Trainer.prediction_step`. Without ``ignore_keys`` only predictions are returned."""
        if ignore_keys is None:
            known = getattr(self.network.config, "keys_to_ignore_at_inference", [])
            ignore_keys = [*known, *STATES]
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    # ---- checkpoints ----

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """See `transformers.Trainer.save_model`. Whoever may read the configuration may read the weights."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            _share_weights(Path(output_dir) if output_dir else output_folder(self.args))

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        with own_names(self.learner):
            super()._save(output_dir, state_dict)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Let the base class write into a folder aside, and then seal and rename the checkpoint."""
        run_dir = Path(self._get_output_dir(trial))
        final = run_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staging = run_dir / STAGING_NAME
        staged = staging / final.name
        try:
            with writing(final, "Checkpoints written before are as they were."):
                if self.args.should_save:
                    shutil.rmtree(staging, ignore_errors=True)
                    staged.mkdir(parents=True)
                progress = None if self._before is None else self.progress(self._before)
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
                    if progress is not None:
                        progress.write(staged)
                    seal(staged)
                    replace_folder(staged, final)
                    best = self.state.best_model_checkpoint
                    rotate_checkpoints(
                        run_dir,
                        self.args.save_total_limit,
                        newest=final,
                        best=Path(best) if best is not None else None,
                    )
        finally:
            self._staging = None
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()


@contextlib.contextmanager
def _kept_weights(model: nn.Module) -> Iterator[None]:
    """Put parameters and buffers back as they are now, at the end. They are copied only where they are replaced."""
    parameters = [(parameter, parameter.data) for parameter in model.parameters()]
    buffers = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for parameter, data in parameters:
            if parameter.dtype != data.dtype:
                parameter.data = data.to(parameter.device)
        for module, name, buffer in buffers:
            now = getattr(module, name)
            if now.dtype != buffer.dtype:
                setattr(module, name, buffer.to(now.device))


def _name(value: str | Enum) -> str:
    """The name of an argument that transformers turns into a member of its enumeration."""
    return str(value.value) if isinstance(value, Enum) else value


def _share_weights(folder: Path) -> None:
    """Give weights, which safetensors writes for their owner alone, the mode of the configuration beside them."""
    config = folder / CONFIG_NAME
    if config.is_file():
        for path in folder.glob("*.safetensors"):
            path.chmod(stat.S_IMODE(config.stat().st_mode))
