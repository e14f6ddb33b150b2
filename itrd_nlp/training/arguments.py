"""Arguments of every training, with or without a teacher."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from transformers import TrainingArguments

from itrd_nlp.errors import UserError, did_you_mean
from itrd_nlp.training.options import TrainingOptions
from itrd_nlp.training.precision import cpu_has_bf16
from itrd_nlp.training.ranges import BATCH, COUNT, COUNT_FROM_0, SEED, Range, check_values
from itrd_nlp.training.secrets import refuse_copies

logger = logging.getLogger(__name__)


_LAUNCHED_PRECISION = "ACCELERATE_MIXED_PRECISION"
_POSITIVE, _NOT_NEGATIVE = Range(above=0), Range(least=0)
_BELOW_1 = Range(least=0, below=1)

OF_TRANSFORMERS = {
    **dict.fromkeys(("seed", "data_seed"), SEED),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm"), _NOT_NEGATIVE),
    **dict.fromkeys(("num_train_epochs", "warmup_steps", "eval_delay"), _NOT_NEGATIVE),
    **dict.fromkeys(("logging_steps", "eval_steps", "save_steps", "adam_epsilon"), _POSITIVE),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor"), _BELOW_1),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), BATCH),
    **dict.fromkeys(("gradient_accumulation_steps", "eval_accumulation_steps"), COUNT),
    "torch_empty_cache_steps": COUNT,
    **dict.fromkeys(("ddp_bucket_cap_mb", "dataloader_prefetch_factor", "ddp_timeout"), COUNT),
    "save_total_limit": COUNT_FROM_0,
    "dataloader_num_workers": Range(least=0, most=1024, whole=True),
    "local_rank": Range(least=-1, whole=True),
    "neftune_noise_alpha": _NOT_NEGATIVE,
    "max_steps": Range(least=-1, whole=True),
}
"""The ranges of arguments that transformers declares, so that their metadata cannot say them."""


@dataclass
class FineTuningArguments(TrainingOptions, TrainingArguments):
    """`transformers.TrainingArguments` that take the CPU where there is nothing better.

    transformers refuses `bf16` on a machine without a GPU unless `use_cpu` says that the CPU is meant. A loss that is
    NaN is logged as it is. transformers hides it by default, and waits for the GPU in every step for that. Batches are
    copied to the GPU without waiting, unless `accelerator_config` or `dataloader_pin_memory` say otherwise. DDP
    searches for parameters without a gradient in every step only if one step before the first finds some.

    Raises:
        UserError: a value is not allowed, or asks for what no training of this package does.
    """

    def check(self) -> None:
        """Refuse values that are not allowed, alone or together.

        Raises:
            UserError: names the argument and says what is allowed.
        """
        check_values(self, OF_TRANSFORMERS)
        if self.max_steps == 0:
            raise UserError(
                "max_steps is 0, but must be -1, for as many steps as num_train_epochs asks for, or at least 1."
            )
        if self.enable_jit_checkpoint:
            raise UserError(
                "enable_jit_checkpoint is true, but SIGTERM saves a checkpoint and ends the training in any case; set "
                "it to false."
            )
        for name in ("do_train", "do_predict"):
            if getattr(self, name):
                raise UserError(
                    f"{name} is true, but only scripts of transformers read it; leave it out. The command, or the "
                    "method of the trainer, says what is done."
                )
        name = self.optim.value if isinstance(self.optim, Enum) else self.optim
        if self.optim_target_modules is not None and not name.startswith(("galore", "apollo")):
            raise UserError(
                f"optim_target_modules is given, but optim is {name}, which reads none; leave it out, or take an "
                "optim of GaLore or APOLLO."
            )

    def __post_init__(self) -> None:
        refuse_copies(self)
        self.check()
        # accelerate heeds the file of its launcher, and transformers would take the GPU beside it.
        if not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU"):
            self.use_cpu = True
        self._take_up_precision()
        if self.bf16 and self.use_cpu and not self.emulate_bf16 and not cpu_has_bf16():
            self.bf16 = False
            os.environ.pop(_LAUNCHED_PRECISION, None)
            warn_of_fp32()
        if self.fsdp_config is not None and not self.fsdp:
            raise UserError(
                "fsdp_config is given, but fsdp is not, so that it would do nothing; leave it out, or shard by "
                "accelerate launch with configs/accelerate/fsdp2.yaml."
            )
        if self.accelerator_config is None and self.dataloader_pin_memory and not self.use_cpu:
            self.accelerator_config = {"non_blocking": True}
        base: Any = super()  # its __post_init__ has no annotations
        base.__post_init__()
        if self.n_gpu > 1:
            raise UserError(
                f"{self.n_gpu} GPUs are in sight of one process, but each needs a process of its own; start it by "
                "accelerate launch with configs/accelerate/ddp_bf16.yaml, or set CUDA_VISIBLE_DEVICES=0."
            )
        if self.fsdp and self.world_size == 1:
            raise UserError(
                "fsdp is given, but there is one process and nothing to shard; start several by accelerate launch with "
                "configs/accelerate/fsdp2.yaml, or leave it out."
            )
        if self.world_size > 1:
            self._check_processes()
        _check_trackers(self.report_to or ())
        if self.run_name is None and self.output_dir is not None:
            # A tracker would make up a name, and another one when the run is resumed.
            self.run_name = Path(self.output_dir).name
        if self.trackio_static_space_id is None:
            # None would publish the log of every run that is pushed.
            self.trackio_static_space_id = False

    def _check_processes(self) -> None:
        """Refuse what several processes cannot do together."""
        reading: Any = self.accelerator_config
        if reading.dispatch_batches:
            raise UserError(
                "accelerator_config sets dispatch_batches to true, but one process can send batches to the others only "
                "where all are padded to one length; leave it out, and each process reads its own rows."
            )
        if not reading.even_batches and not self.dataloader_drop_last:
            raise UserError(
                "accelerator_config sets even_batches to false, but processes with more batches than others would wait "
                "for them at the end of an epoch; set dataloader_drop_last to true, too, or leave it out."
            )
        if self.auto_find_batch_size:
            raise UserError(
                "auto_find_batch_size is true, but several processes must take one size, and one that runs out of "
                "memory leaves the others waiting; set it to false, and per_device_train_batch_size to one that fits."
            )

    def _take_up_precision(self) -> None:
        """Take the precision of `accelerate launch` where no argument names one. It comes by the environment alone."""
        launched = os.environ.get(_LAUNCHED_PRECISION, "no")
        if not (self.bf16 or self.fp16):
            self.bf16, self.fp16 = launched == "bf16", launched == "fp16"


def output_folder(args: TrainingArguments) -> Path:
    """The folder of a training. transformers names one where nobody does."""
    assert args.output_dir is not None
    return Path(args.output_dir)


def _check_trackers(names: str | Sequence[str]) -> None:
    """Refuse a tracker before models and data are loaded.

    Raises:
        UserError: transformers does not know it, or its package is not installed.
    """
    if not names:
        return
    # Imported here, because --help would wait seconds for them.
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in [names] if isinstance(names, str) else names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ["none", "all", *INTEGRATION_TO_CALLBACK]
            hint = did_you_mean(str(name), known, f"; choose of {', '.join(known)}.")
            raise UserError(f"report_to names {name!r}, which is no tracker{hint}")
        # The other two are a part of the platform that runs the training.
        if name not in ("flyte", "azure_ml", *get_available_reporting_integrations()):
            raise UserError(
                f"report_to names {name!r}, but the package of this tracker is not installed; install it, or set "
                "report_to to none."
            )


@functools.cache
def warn_of_fp32() -> None:
    """Say once in a process, and in one process alone, that fp32 takes the place of bf16."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning(
            "bf16 is true, but this CPU has no instructions for it; training in fp32, which is tens of times as fast "
            "here (emulate_bf16 keeps bf16)."
        )
