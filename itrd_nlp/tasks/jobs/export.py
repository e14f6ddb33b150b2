"""Export a model to ONNX, int8 and int4, and judge torch and the exports on the same examples."""

from __future__ import annotations

import contextlib
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from itrd_nlp.errors import UserError
from itrd_nlp.files import check_replaceable, read_json, replacing_folder, write_json, writing
from itrd_nlp.models.loading import load_model_and_tokenizer
from itrd_nlp.models.onnx_export import PACKAGES, export_files, export_onnx
from itrd_nlp.models.onnx_model import GRAPHS, OnnxModel, require_packages
from itrd_nlp.models.onnx_record import OPSET, RECORD_NAME, unmeasured
from itrd_nlp.models.onnx_weights import write_quantized
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.quantised import refuse_quantised
from itrd_nlp.tasks.jobs.judging import Rows, check_judging, judge_forms, print_forms, too_lossy
from itrd_nlp.tasks.jobs.runs import check_lengths
from itrd_nlp.tasks.jobs.speed import AnyModel
from itrd_nlp.tasks.task import Task, TaskData
from itrd_nlp.tasks.trained import record_of
from itrd_nlp.training.output_paths import check_target_file, check_target_folder, check_writable
from itrd_nlp.training.results import environment, size

EXPORT_NAME = "export.json"
FP32_FOLDER = "onnx"
FOLDERS = {"fp32": FP32_FOLDER, "int8": "onnx_int8", "int4": "onnx_int4"}
"""Form of the weights to the folder of its graph."""


def export(
    task: Task,
    name: str,
    loading: LoadingArguments,
    *,
    output_dir: str | None = None,
    int8: bool = True,
    int4: bool = False,
    max_f1_drop: float = 1.0,
    opset: int = OPSET,
    batch_size: int = 32,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Export a checkpoint, quantize it, and judge torch, ONNX and the quantized forms on the same examples.

    Writes ``onnx``, ``onnx_int8``, ``onnx_int4`` and ``export.json`` into output_dir and prints a table.

    Args:
        task: with the examples.
        name: folder or model id.
        loading: how the model is loaded.
        output_dir: default: the folder of the model.
        int8: quantize to 8 bits, too.
        int4: quantize the linear layers to 4 bits, too.
        max_f1_drop: most points of the task's main metric that a quantized form may lose against torch. Default: 1.
        opset: see `export_onnx`.
        batch_size: features a batch, where the metrics and the examples a second are measured.
        record: what else goes into export.json, such as the command.

    Returns:
        The content of export.json.

    Raises:
        UserError: something cannot be used or exported, or a quantized form loses more than `max_f1_drop`. Then the new
            model of this form is removed, and the other exports and the record of all stay.
    """
    forms = [form for form, asked in (("int8", int8), ("int4", int4)) if asked]
    output = _checked_output(name, output_dir, max_f1_drop, batch_size, task.files)
    model, tokenizer, data = _loaded(task, name, loading)
    plain, known = output / FP32_FOLDER, _known(name, loading)
    with contextlib.ExitStack() as stack:
        staged = {}
        for form in forms:
            target = replacing_folder(output / FOLDERS[form], "an export", export_files(form))
            staged[form] = stack.enter_context(target)
        with Console().status("Exporting"):
            difference = export_onnx(model, tokenizer, plain, opset=opset, record=known)
        for form, folder in staged.items():
            with Console().status("Quantizing"):
                write_quantized(plain, folder, form)
        models, megabytes = _forms(model, {"fp32": plain, **staged})
        rows = judge_forms(task, models, megabytes, data, batch_size=batch_size)
        refused = _refused(task, data, rows, staged, output, max_f1_drop)
    about = {"opset": opset, "logit_difference": difference}
    about |= {f"{form}_refused": form in refused for form in ("int8", "int4")}
    report = _write_record(task, data, rows, output, about | (record or {}))
    print_forms(rows, f"{torch.get_num_threads()} threads, opset {opset}", task, data)
    if refused:
        raise UserError(" ".join(refused.values()))
    return report


def _loaded(
    task: Task, name: str, loading: LoadingArguments
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, TaskData]:
    """The model, its tokenizer and the examples.

    Raises:
        UserError: something cannot be used, or the model is quantised already.
    """
    model, tokenizer = load_model_and_tokenizer(name, role="model", args=loading, head=task.head)
    refuse_quantised(model, f"model {name}")
    data = task.load(tokenizer, model, training=False)
    check_lengths(model, data)
    return model, tokenizer, data


def _known(name: str, loading: LoadingArguments) -> dict[str, Any] | None:
    """The record of a model without one in its folder, such as a checkpoint, whose run has other scores."""
    if (Path(name) / RECORD_NAME).is_file():
        return None  # it goes along as it is
    record = record_of(name, loading.model_revision)
    return None if record is None else unmeasured(record.as_json())


def _forms(
    model: PreTrainedModel, folders: dict[str, Path]
) -> tuple[dict[str, AnyModel], dict[str, float]]:
    """Torch and all exports by their rows in the table, and the megabytes of each."""
    models: dict[str, AnyModel] = {"torch": model}
    megabytes: dict[str, float] = {"torch": size(model)["megabytes_fp32"]}
    for form, folder in folders.items():
        models[_row(form)] = OnnxModel.from_pretrained(folder)
        megabytes[_row(form)] = round((folder / GRAPHS[form]).stat().st_size / 1e6, 1)
    return models, megabytes


def _row(form: str) -> str:
    """The name of an exported form in the table."""
    return "onnx" if form == "fp32" else f"onnx {form}"


def _refused(
    task: Task,
    data: TaskData,
    rows: Rows,
    staged: dict[str, Path],
    output: Path,
    max_f1_drop: float,
) -> dict[str, str]:
    """The forms that lose too much, each with a sentence. Their folders are removed."""
    refused = {}
    for form, folder in staged.items():
        sentence = too_lossy(task, data, rows, _row(form), form, max_f1_drop)
        if sentence is not None:
            shutil.rmtree(folder)
            stays = " and the one made before stays" if (output / FOLDERS[form]).is_dir() else ""
            refused[form] = f"{sentence}{stays}; the fp32 export is in {output / FP32_FOLDER}."
    return refused


def _checked_output(
    name: str, output_dir: str | None, max_f1_drop: float, batch_size: int, files: list[str]
) -> Path:
    """The folder of the export, after a look at all that can be refused before the work."""
    require_packages(*PACKAGES)
    check_judging(max_f1_drop, batch_size)
    if output_dir is None and not Path(name).is_dir():
        raise UserError(f"output_dir is not set, but the model {name} is no folder to write into.")
    output = Path(name if output_dir is None else output_dir)
    _check_targets(output, [name, *files])
    check_writable(output, option="output_dir")
    return output


def _check_targets(output: Path, inputs: list[str]) -> None:
    """Refuse to export where something would be lost."""
    check_target_folder(output, option="output_dir", written=(), ours=lambda _: True)
    for form, graph in GRAPHS.items():
        check_replaceable(output / FOLDERS[form], "output_dir")
        check_target_folder(
            output / FOLDERS[form],
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
        content = read_json(path)
    except UserError:
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
