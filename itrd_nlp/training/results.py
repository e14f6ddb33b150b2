"""The size of a model, the versions of a run, and the table at its end."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from itrd_nlp import __version__
from itrd_nlp.training.record import ModelRecord

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate")


def size(model: nn.Module) -> dict[str, Any]:
    """Return the parameters of a model, and its megabytes (1e6 bytes) in fp32."""
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "megabytes_fp32": round(parameters * 4 / 1e6, 1)}


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


def print_summary(rows: Sequence[ModelRecord], title: str, metrics: Mapping[str, str]) -> None:
    """Print a table with a row for each model: name, layers, parameters, size, scores and seconds.

    Args:
        rows: records of the models.
        title: text above the table.
        metrics: name of a metric to the heading of its column.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for column in ("layers", "parameters", "MB (fp32)", *metrics.values(), "seconds"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.name or "",
            "" if row.layers is None else str(row.layers),
            "" if row.parameters is None else f"{row.parameters / 1e6:.1f} M",
            "" if row.megabytes_fp32 is None else f"{row.megabytes_fp32:.1f}",
            *(f"{row.scores[metric]:.2f}" if metric in row.scores else "" for metric in metrics),
            "" if row.train_seconds is None else f"{row.train_seconds:.0f}",
        )
    Console().print(table)
