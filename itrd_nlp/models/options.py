"""The options for loading models. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

WEIGHTS = ("int8", "int4")
"""Forms that the weights of a trained model can be quantised to."""


@dataclass
class LoadingArguments:
    """How models are loaded."""

    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention: eager, sdpa, flash_attention_2 or fast. fast is sdpa, except in bf16 training on a "
            "CPU, where it is faster than sdpa and eager. Default: transformers chooses.",
        },
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of models that come from the Hub."}
    )


@dataclass(frozen=True)
class Running:
    """How a model is loaded and runs that answers examples.

    Attributes:
        loading: how it is loaded.
        device: where it runs. Default: the first accelerator, else the CPU.
        dtype: of the weights, a name of torch's.
        batch_size: number of examples at a time.
    """

    loading: LoadingArguments
    device: str | None = None
    dtype: str = "float32"
    batch_size: int = 1
