"""Export a model to ONNX and int8, and judge torch, ONNX and int8 on the same examples."""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json, writing
from itrd_nlp.models.loading import LoadingArguments, load_model, load_tokenizer
from itrd_nlp.models.onnx_export import OPSET, PACKAGES, aside, export_onnx, write_int8
from itrd_nlp.models.onnx_model import FP32_NAME, INT8_NAME, OnnxModel, require_packages
from itrd_nlp.tasks.jobs.speed import AnyModel, milliseconds_per_question, model_logits
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.training.ranges import Range
from itrd_nlp.training.results import environment, size

EXPORT_NAME = "export.json"


def export(
    task: Task,
    name: str,
    loading: LoadingArguments,
    *,
    output_dir: str | None = None,
    int8: bool = True,
    max_f1_drop: float = 1.0,
    opset: int = OPSET,
    batch_size: int = 32,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Export a checkpoint, quantize it, and judge torch, ONNX and int8 on the same examples.

    Writes ``onnx``, ``onnx_int8`` and ``export.json`` into output_dir and prints a table.

    Args:
        task: with the examples.
        name: folder or model id.
        loading: how the model is loaded.
        output_dir: default: the folder of the model.
        int8: quantize, too.
        max_f1_drop: the points of the main metric (F1) that int8 may lose against torch, at most.
        opset: see `export_onnx`.
        batch_size: windows a batch, where EM, F1 and questions a second are measured.
        record: what else goes into export.json, such as the command.

    Returns:
        The content of export.json.

    Raises:
        UserError: something cannot be used or exported; int8 loses more than `max_f1_drop`. Then the new int8 model is
            removed, the fp32 export and the record of both stay.
    """
    require_packages(*PACKAGES)
    if max_f1_drop not in Range(least=0):  # nan would let every model pass
        raise UserError(f"max_f1_drop is {max_f1_drop}, but must be at least 0 and finite.")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1.")
    if output_dir is None and not Path(name).is_dir():
        raise UserError(f"output_dir is not set, but the model {name} is no folder to write into.")
    output = Path(name if output_dir is None else output_dir)
    fp32, quantized = output / "onnx", output / "onnx_int8"
    model = load_model(name, role="model", args=loading, head=task.head)
    tokenizer = load_tokenizer(name, loading)
    data = task.load(tokenizer, model.config, training=False)
    console = Console()
    with contextlib.ExitStack() as stack:
        with console.status("Exporting"):
            difference = export_onnx(model, tokenizer, fp32, opset=opset)
        models: dict[str, AnyModel] = {
            "torch": model,
            "onnx": OnnxModel.from_pretrained(fp32),
        }
        megabytes = {
            "torch": size(model)["megabytes_fp32"],
            "onnx": _megabytes(fp32 / FP32_NAME),
        }
        if int8:
            with console.status("Quantizing"):
                staged = stack.enter_context(aside(quantized))
                write_int8(fp32, staged)
            models["onnx int8"] = OnnxModel.from_pretrained(staged)
            megabytes["onnx int8"] = _megabytes(staged / INT8_NAME)
        rows = _judge(task, models, data, batch_size)
        for key, row in rows.items():
            row["megabytes"] = megabytes[key]
        metric, unit = task.main_metric, task.page.unit
        loss = rows["torch"][metric] - rows["onnx int8"][metric] if int8 else 0.0
        refused = loss > max_f1_drop
        report = {
            "models": rows,
            unit: len(data.examples),
            "signature": data.signature,
            "opset": opset,
            "logit_difference": difference,
            "int8_refused": refused,
            "threads": torch.get_num_threads(),
            "environment": environment() | {package: version(package) for package in PACKAGES},
            **(record or {}),
        }
        with writing(output / EXPORT_NAME):
            write_json(output / EXPORT_NAME, report)
        _print_table(report, task)
        if refused:
            earlier = " and the one made before stays" if quantized.is_dir() else ""
            raise UserError(
                f"int8 loses {loss:.2f} {task.metrics[metric]} on {len(data.examples)} {unit}, more than "
                f"max_f1_drop={max_f1_drop:g}: it is not kept{earlier}; the fp32 export is in {fp32}."
            )
    return report


def _judge(
    task: Task, models: dict[str, AnyModel], data: TaskData, batch_size: int
) -> dict[str, dict[str, float]]:
    """Scores, speed and agreement with torch, one row a model."""
    logits = model_logits(models, data.evaluation, data.collator, batch_size=batch_size)
    milliseconds = milliseconds_per_question(models, data.evaluation, data.collator)
    rows, answers = {}, {}
    for name, (values, seconds) in logits.items():
        metrics = data.judge(_prediction(values, data))
        answers[name] = data.judge.predictions
        same = sum(answers["torch"][i] == answer for i, answer in answers[name].items())
        one = task.page.unit.removesuffix("s")
        rows[name] = {
            **metrics,
            "same_answers": 100 * same / len(answers[name]),
            f"{one}s_per_second": len(answers[name]) / seconds,
            f"milliseconds_per_{one}": milliseconds[name],
        }
    return rows


def _prediction(values: tuple[Any, ...], data: TaskData) -> EvalPrediction:
    """Logits as a trainer hands them to the judge."""
    outputs: Any = values if len(values) > 1 else values[0]  # typed as a single array
    if data.preprocess_logits is not None:
        outputs = data.preprocess_logits(torch.from_numpy(outputs), None).numpy()
    return EvalPrediction(predictions=outputs, label_ids=None)


def _print_table(report: dict[str, Any], task: Task) -> None:
    unit = task.page.unit
    one = unit.removesuffix("s")
    table = Table(
        title=f"{report[unit]} {unit}, {report['threads']} threads, opset {report['opset']}",
        title_justify="left",
    )
    table.add_column("model")
    for column in ("MB", *task.metrics.values(), "as torch", f"{unit}/s", f"ms/{one}"):
        table.add_column(column, justify="right")
    for name, row in report["models"].items():
        table.add_row(
            name,
            f"{row['megabytes']:.1f}",
            *(f"{row[metric]:.2f}" for metric in task.metrics),
            f"{row['same_answers']:.1f} %",
            f"{row[f'{one}s_per_second']:.1f}",
            f"{row[f'milliseconds_per_{one}']:.1f}",
        )
    Console().print(table)


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)
