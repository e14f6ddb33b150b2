"""Arguments of every training, with or without a teacher."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import TrainingArguments

from itrd_nlp.training.precision import cpu_has_bf16
from itrd_nlp.training.roles import Metadata, Role

logger = logging.getLogger(__name__)


@dataclass
class FineTuningArguments(TrainingArguments):
    """`transformers.TrainingArguments` that take the CPU where there is nothing better.

    transformers refuses `bf16` on a machine without a GPU unless `use_cpu` says that the CPU is meant. A loss that is
    NaN is logged as it is. transformers hides it by default, and waits for the GPU in every step for that. Batches are
    copied to the GPU without waiting, unless `accelerator_config` or `dataloader_pin_memory` say otherwise. DDP does
    not search for unused parameters, because there are none.
    """

    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={
            "help": "Log the mean of the earlier losses in place of one that is NaN or infinite."
        },
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False,
        metadata={"help": "Let DDP search in every step for parameters without a gradient."},
    )
    emulate_bf16: bool = field(
        default=False,
        metadata={
            "help": "Keep bf16 on a CPU that has no instructions for it. By default fp32 is taken there, which is tens "
            "of times as fast."
        },
    )

    overwrite_output_dir: bool = field(
        default=False,
        metadata=Metadata(
            role=Role.LAUNCH,
            help="Remove the checkpoints of an earlier run from output_dir and start anew. By default a folder with "
            "checkpoints is refused, unless resume_from_checkpoint takes one up.",
        ),
    )

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            self.use_cpu = True
        if self.bf16 and self.use_cpu and not self.emulate_bf16 and not cpu_has_bf16():
            self.bf16 = False
            warn_of_fp32()
        if self.accelerator_config is None and self.dataloader_pin_memory and not self.use_cpu:
            self.accelerator_config = {"non_blocking": True}
        super().__post_init__()
        if self.run_name is None and self.output_dir is not None:
            # A tracker would make up a name, and another one when the run is resumed.
            self.run_name = Path(self.output_dir).name
        if self.trackio_static_space_id is None:
            # None would publish the log of every run that is pushed.
            self.trackio_static_space_id = False


@functools.cache
def warn_of_fp32() -> None:
    """Say once in a process, and in one process alone, that fp32 takes the place of bf16."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning(
            "bf16 is true, but this CPU has no instructions for it; training in fp32, which is tens of times as fast "
            "here (emulate_bf16 keeps bf16)."
        )
