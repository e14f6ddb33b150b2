"""The size of a model, the versions of a run, and the table at its end."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from itrd_nlp import __version__
from itrd_nlp.training.record import ModelRecord
from itrd_nlp.training.terminal import print_table

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate")


def size(model: nn.Module) -> dict[str, Any]:
    """Return the parameters of a model, its megabytes (1e6 bytes) in fp32, and those that a quantised one takes."""
    parameters = sum(p.numel() for p in model.parameters())
    found = {"parameters": parameters, "megabytes_fp32": round(parameters * 4 / 1e6, 1)}
    if any(map(_wraps, model.parameters())):
        found["megabytes"] = round(sum(map(_bytes, model.parameters())) / 1e6, 1)
    return found


def _bytes(weight: Tensor) -> int:
    """The bytes of a weight. One that is wrapped around others, as by torchao, takes those of all of them."""
    if not _wraps(weight):
        return weight.numel() * weight.element_size()
    wrapper: Any = weight
    names, _ = wrapper.__tensor_flatten__()
    return sum(_bytes(getattr(weight, name)) for name in names)


def _wraps(weight: Tensor) -> bool:
    """Whether a weight is made of others. One that FSDP2 has cut into shards has the size of the whole by itself."""
    return is_traceable_wrapper_subclass(weight) and not isinstance(weight, DTensor)


def environment() -> dict[str, str]:
    """Return versions and machine, without names of hosts, users or folders."""
    return {
        "itrd_nlp": __version__,
        **{package: version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs{_gpus()}",
    }


def _gpus() -> str:
    if not torch.cuda.is_available():
        return ""
    return f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"


def print_summary(
    rows: Sequence[ModelRecord], title: str, metrics: Mapping[str, str], *, example: str = "row"
) -> None:
    """Print one row a model: name, layers, parameters, size, scores, milliseconds an example, seconds of the training.

    Columns that are known of no model are left out.

    Args:
        rows: records of the models.
        title: text above the table.
        metrics: name of a metric to the heading of its column.
        example: the noun for one example, such as ``question``.
    """
    columns: dict[str, Callable[[ModelRecord], str]] = {
        "layers": lambda row: _shown(row.layers, "d"),
        "params": lambda row: "" if row.parameters is None else f"{row.parameters / 1e6:.1f} M",
        "MB (fp32)": lambda row: _shown(row.megabytes_fp32, ".1f"),
        "MB": lambda row: _shown(row.megabytes, ".1f"),
        **{label: _score_of(name) for name, label in metrics.items()},
        "pseudo-perplexity": lambda row: _shown(row.perplexity, ".2f"),
        f"ms a {example}": lambda row: _shown(row.ms_per_question, ".1f"),
        "training (s)": lambda row: _shown(row.train_seconds, ".0f"),
    }
    known = {name: cell for name, cell in columns.items() if any(cell(row) for row in rows)}
    print_table(
        title,
        [("model", "left"), *((name, "right") for name in known)],
        [[row.name or "", *(cell(row) for cell in known.values())] for row in rows],
    )


def _score_of(name: str) -> Callable[[ModelRecord], str]:
    """The cell of a metric."""
    return lambda row: _shown(row.scores.get(name), ".2f")


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
