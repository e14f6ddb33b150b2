"""Export a model to ONNX and int8, and judge torch, ONNX and int8 on the same examples."""

from __future__ import annotations

import contextlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import EvalPrediction

from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json, writing
from itrd_nlp.models.loading import load_model_and_tokenizer
from itrd_nlp.models.onnx_export import OPSET, PACKAGES, aside, export_onnx, write_int8
from itrd_nlp.models.onnx_model import FP32_NAME, INT8_NAME, OnnxModel, require_packages
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.jobs.runs import check_lengths
from itrd_nlp.tasks.jobs.speed import AnyModel, milliseconds_per_question, model_logits
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.training.ranges import Range
from itrd_nlp.training.results import environment, size
from itrd_nlp.training.targets import check_target_file, check_target_folder

EXPORT_NAME = "export.json"
FP32_FOLDER = "onnx"
INT8_FOLDER = "onnx_int8"


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
        max_f1_drop: the points of the task's main metric that int8 may lose against torch, at most. Default: 1.
        opset: see `export_onnx`.
        batch_size: features a batch, where the metrics and the examples a second are measured.
        record: what else goes into export.json, such as the command.

    Returns:
        The content of export.json.

    Raises:
        UserError: something cannot be used or exported, or int8 loses more than `max_f1_drop`. Then the new int8 model
            is removed, and the fp32 export and the record of both stay.
    """
    output = _checked_output(name, output_dir, max_f1_drop, batch_size, task.files)
    model, tokenizer = load_model_and_tokenizer(name, role="model", args=loading, head=task.head)
    data = task.load(tokenizer, model.config, training=False)
    check_lengths(model, data)
    with contextlib.ExitStack() as stack:
        with Console().status("Exporting"):
            difference = export_onnx(model, tokenizer, output / FP32_FOLDER, opset=opset)
        exported = OnnxModel.from_pretrained(output / FP32_FOLDER)
        models: dict[str, AnyModel] = {"torch": model, "onnx": exported}
        megabytes = [size(model)["megabytes_fp32"], _megabytes(output / FP32_FOLDER / FP32_NAME)]
        if int8:
            with Console().status("Quantizing"):
                staged = stack.enter_context(aside(output / INT8_FOLDER))
                write_int8(output / FP32_FOLDER, staged)
            models["onnx int8"] = OnnxModel.from_pretrained(staged)
            megabytes.append(_megabytes(staged / INT8_NAME))
        rows = _judge(task, models, data, batch_size, megabytes)
        loss = rows["torch"][task.measures.main] - rows[list(rows)[-1]][task.measures.main]
        refused = int8 and loss > max_f1_drop
        about = {"opset": opset, "logit_difference": difference, "int8_refused": refused}
        report = _write_record(task, data, rows, output, about | (record or {}))
        _print_table(report, task, data)
        if refused:
            raise UserError(_refusal(task, data, output, loss, max_f1_drop))
    return report


def _checked_output(
    name: str, output_dir: str | None, max_f1_drop: float, batch_size: int, files: list[str]
) -> Path:
    """The folder of the export, after a look at all that can be refused before the work."""
    require_packages(*PACKAGES)
    allowed = Range(least=0)  # nan would let every model pass
    if max_f1_drop not in allowed:
        raise UserError(f"max_f1_drop is {max_f1_drop}, but must be {allowed}.")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1.")
    if output_dir is None and not Path(name).is_dir():
        raise UserError(f"output_dir is not set, but the model {name} is no folder to write into.")
    output = Path(name if output_dir is None else output_dir)
    _check_targets(output, [name, *files])
    return output


def _check_targets(output: Path, inputs: list[str]) -> None:
    """Refuse to export where something would be lost."""
    check_target_folder(output, option="output_dir", written=(), ours=lambda _: True)
    for folder, graph in ((FP32_FOLDER, FP32_NAME), (INT8_FOLDER, INT8_NAME)):
        check_target_folder(
            output / folder,
            option="output_dir",
            written=("*",),
            ours=lambda path, graph=graph: (path / graph).is_file(),  # type: ignore[misc]
            inputs=inputs,
        )
    if output.is_dir():
        check_target_file(
            output / EXPORT_NAME,
            option="output_dir",
            inputs=[source for source in inputs if Path(source).is_file()],
            ours=_is_record,
        )


def _is_record(path: Path) -> bool:
    """Whether a file is an export.json that this job has written."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"models", "opset", "int8_refused"} <= content.keys()


def _write_record(
    task: Task,
    data: TaskData,
    rows: dict[str, dict[str, float]],
    output: Path,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Write export.json: the models, the examples, the machine, and what else is known."""
    report = {
        "models": rows,
        task.page.unit: len(data.examples),
        "signature": data.signature,
        "threads": torch.get_num_threads(),
        "environment": environment() | {package: version(package) for package in PACKAGES},
        **about,
    }
    with writing(output / EXPORT_NAME):
        write_json(output / EXPORT_NAME, report)
    return report


def _refusal(task: Task, data: TaskData, output: Path, loss: float, allowed: float) -> str:
    headings, main = task.measures
    earlier = " and the one made before stays" if (output / INT8_FOLDER).is_dir() else ""
    return (
        f"int8 loses {loss:.2f} {headings[main]} on {len(data.examples)} {task.page.unit}, more than "
        f"max_f1_drop={allowed:g}: it is not kept{earlier}; the fp32 export is in {output / FP32_FOLDER}."
    )


def _judge(
    task: Task,
    models: dict[str, AnyModel],
    data: TaskData,
    batch_size: int,
    megabytes: list[float],
) -> dict[str, dict[str, float]]:
    """Scores, speed, size and agreement with torch, one row a model."""
    logits = model_logits(
        models,
        data.evaluation,
        data.collator,
        batch_size=batch_size,
        reduce=data.preprocess_logits,
    )
    milliseconds = milliseconds_per_question(models, data.evaluation, data.collator)
    rows, answers = {}, {}
    for size_of, (name, (values, seconds)) in zip(megabytes, logits.items(), strict=True):
        metrics = data.judge(_prediction(values))
        answers[name] = data.judge.predictions
        same = sum(answers["torch"][i] == answer for i, answer in answers[name].items())
        one = task.page.one
        rows[name] = {
            **metrics,
            "same_answers": 100 * same / len(answers[name]),
            f"{one}s_per_second": len(answers[name]) / seconds,
            f"milliseconds_per_{one}": milliseconds[name],
            "megabytes": size_of,
        }
    return rows


def _prediction(values: tuple[Any, ...]) -> EvalPrediction:
    """Logits as a trainer hands them to the judge."""
    outputs: Any = values if len(values) > 1 else values[0]  # typed as a single array
    nothing: Any = None  # the judge has the labels
    return EvalPrediction(predictions=outputs, label_ids=nothing)


def _print_table(report: dict[str, Any], task: Task, data: TaskData) -> None:
    metrics = task.metrics_of(data)
    unit = task.page.unit
    one = task.page.one
    table = Table(
        title=f"{report[unit]} {unit}, {report['threads']} threads, opset {report['opset']}",
        title_justify="left",
    )
    table.add_column("model")
    for column in ("MB", *metrics.values(), "as torch", f"{unit}/s", f"ms/{one}"):
        table.add_column(column, justify="right")
    for name, row in report["models"].items():
        table.add_row(
            name,
            f"{row['megabytes']:.1f}",
            *(f"{row[metric]:.2f}" for metric in metrics),
            f"{row['same_answers']:.1f} %",
            f"{row[f'{one}s_per_second']:.1f}",
            f"{row[f'milliseconds_per_{one}']:.1f}",
        )
    Console().print(table)


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)
