"""The options for loading models. No import here loads torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.errors import UserError

WEIGHTS = ("int8", "int4")
"""Forms that the weights of a trained model can be quantised to."""

DTYPES = ("float32", "bfloat16", "float16")
"""Names of torch's to which the weights of a model can be cast."""


def check_dtype(name: str) -> None:
    """Refuse a name that is none of `DTYPES`.

    Raises:
        UserError: names them.
    """
    if name not in DTYPES:
        raise UserError(f"dtype is {name!r}, but must be one of {', '.join(DTYPES)}.")


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
        dtype: of the weights, one of `DTYPES`.
        batch_size: number of examples at a time.

    Raises:
        UserError: there is no such dtype.
    """

    loading: LoadingArguments
    device: str | None = None
    dtype: str = "float32"
    batch_size: int = 1

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
