"""What a run leaves behind: ``results.json`` and the table at its end."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from itrd_nlp import __version__
from itrd_nlp.errors import UserError

RESULTS_NAME = "results.json"
SQUAD_METRICS = {"exact_match": "EM", "f1": "F1"}
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate")


def size(model: nn.Module) -> dict[str, float]:
    """Parameters and megabytes (1e6 bytes, as stored in fp32) of a model."""
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "megabytes_fp32": round(parameters * 4 / 1e6, 1)}


def environment() -> dict[str, str]:
    """Versions and machine, without names of hosts, users or folders."""
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


def read_results(folder: str | Path) -> dict[str, Any] | None:
    """The ``results.json`` of a folder, None where there is none.

    Raises:
        UserError: the file is there and is no JSON object.
    """
    path = Path(folder) / RESULTS_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON object ({error}); delete it to measure again."
        ) from None
    return content


def print_summary(
    rows: list[dict[str, Any]], title: str, metrics: Mapping[str, str] = SQUAD_METRICS
) -> None:
    """Print one row a model: name, layers, parameters, size, metrics, seconds.

    Args:
        rows: a model each, as results.json holds it, and its `name` and `seconds`.
        title: above the table.
        metrics: key in a row to the heading of its column.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for column in ("layers", "parameters", "MB (fp32)", *metrics.values(), "seconds"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            str(row["layers"]),
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['megabytes_fp32']:.1f}",
            *(f"{row[metric]:.2f}" for metric in metrics),
            "" if row.get("seconds") is None else f"{row['seconds']:.0f}",
        )
    Console().print(table)
