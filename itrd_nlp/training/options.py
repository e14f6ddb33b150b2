"""The options that every training has beside those of transformers. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.training.roles import Metadata, Role


@dataclass
class TrainingOptions:
    """The training. Options that transformers has, too, have another default here."""

    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={
            "help": "Log the mean of the earlier losses in place of one that is NaN or infinite."
        },
    )
    ddp_find_unused_parameters: bool | None = field(
        default=None,
        metadata={
            "help": "Let DDP search in every step for parameters without a gradient. By default one step before the "
            "first finds out whether there are any."
        },
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
            help="Remove the checkpoints and the results of an earlier run from output_dir and start anew. By default "
            "a folder with checkpoints is refused, unless resume_from_checkpoint takes one up, and a finished run of "
            "the same arguments is shown and not made again.",
        ),
    )
