"""Export a question-answering model to ONNX and to int8, and hold both against torch."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import shutil
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import (
    AutoModelForQuestionAnswering,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from itrd_nlp.errors import UserError
from itrd_nlp.files import replace_folder, write_json, writing
from itrd_nlp.models.loading import LoadingArguments, load_model, load_tokenizer
from itrd_nlp.tasks.question_answering.data import (
    DataArguments,
    EvaluationData,
    collator,
    load_evaluation_data,
)
from itrd_nlp.tasks.question_answering.onnx_model import (
    FP32_NAME,
    INPUT_NAMES,
    INT8_NAME,
    OUTPUT_NAMES,
    OnnxQuestionAnsweringModel,
    require_packages,
)
from itrd_nlp.tasks.question_answering.speed import (
    SpanModel,
    milliseconds_per_question,
    span_logits,
)
from itrd_nlp.training.results import RESULTS_NAME, environment, size

OPSET = 20  # the first one with Gelu
OPSETS = range(18, 24)  # what torch's exporter writes
EXPORT_NAME = "export.json"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
QUANTIZED_OPERATORS = ("MatMul", "Gather")  # linear layers and embeddings
_LARGEST_GRAPH = 2_000_000_000  # bytes that fit into one protobuf file


def export_onnx(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    *,
    opset: int = OPSET,
    tolerance: float = 1e-4,
) -> float:
    """Export a model to ``folder/model.onnx``, in fp32, with the tokenizer and the configuration beside it.

    The graph takes `input_ids`, `attention_mask` and, where the tokenizer makes them, `token_type_ids`, int64 of any
    shape (batch, length) up to the model's longest input. It returns `start_logits` and `end_logits`, float32. It is
    checked by `onnx.checker` and its logits under ONNX Runtime are compared with torch's, see `logit_difference`. The
    folder appears when all of this is done; an earlier export in its place is there until then. A results.json in the
    folder from which the model was loaded is copied.

    Args:
        model: an encoder with a span head. It is not changed.
        tokenizer: the model's.
        folder: where the export goes.
        opset: version of the ONNX operators, 18 to 23.
        tolerance: the largest difference of logits that is allowed.

    Returns:
        The largest difference of logits.

    Raises:
        UserError: a package of the extra is missing; torch cannot export the model; the logits differ by more; the
            folder holds something else.

    Example:
        >>> export_onnx(model, tokenizer, "runs/my_student/onnx")  # doctest: +SKIP
        5.7e-06
    """
    require_packages(*PACKAGES)
    if opset not in OPSETS:
        raise UserError(f"opset is {opset}, but must be {OPSETS[0]} to {OPSETS[-1]}.")
    folder = Path(folder)
    reference = _reference(model)
    with _aside(folder) as staged:
        _write_graph(reference, tokenizer, staged / FP32_NAME, opset)
        model.config.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        # A model that was not loaded has the empty name, which would be the current folder.
        if model.name_or_path and (Path(model.name_or_path) / RESULTS_NAME).is_file():
            shutil.copy(Path(model.name_or_path) / RESULTS_NAME, staged)
        difference = logit_difference(reference, staged)
        if not difference <= tolerance:  # NaN, too
            raise UserError(
                f"the logits of the ONNX graph differ from those of torch by up to {difference:.1e}, but at most "
                f"{tolerance:.1e} is allowed; {folder} is not written."
            )
    return difference


def quantize_int8(folder: str | Path, out: str | Path) -> None:
    """Quantize ``folder/model.onnx`` to ``out/model_int8.onnx``, with tokenizer and configuration beside it.

    Weights of linear layers become int8 with one scale a column and 7 of the 8 bits in use, embeddings 8 bits with one
    scale a table. Activations are quantized as they come (dynamic quantization), attention itself stays in fp32.
    results.json is not copied: its figures are not those of this model.

    Args:
        folder: what `export_onnx` wrote.
        out: where the quantized model goes; it appears when it is whole.

    Raises:
        UserError: a package of the extra is missing, ``folder`` holds no model.onnx, or ``out`` holds something else.
    """
    require_packages(*PACKAGES)
    with _aside(Path(out)) as staged:
        _write_int8(Path(folder), staged)


def logit_difference(model: PreTrainedModel, folder: str | Path) -> float:
    """The largest difference between a model's logits and those of its export.

    Compared over random tokens in batches of 1 to 5 and lengths from 1 to the longest that the model takes (512 at
    most), with and without padding.

    Args:
        model: in fp32, in evaluation mode, on the CPU.
        folder: what `export_onnx` wrote.
    """
    exported = OnnxQuestionAnsweringModel.from_pretrained(folder)
    names = {value.name for value in exported.session.get_inputs()}
    longest = min(512, _longest_input(model))
    difference = torch.tensor(0.0)
    for batch, length in ((1, 1), (1, longest), (2, 8), (3, longest // 2), (5, longest // 3)):
        inputs = _random_inputs(model, names, batch, length)
        with torch.inference_mode():
            expected, found = model(**inputs), exported(**inputs)
        for name in OUTPUT_NAMES:
            difference = torch.maximum(difference, (found[name] - expected[name]).abs().max())
    return float(difference)


def export_checkpoint(
    name: str,
    loading: LoadingArguments,
    data_args: DataArguments,
    *,
    output_dir: str | None = None,
    int8: bool = True,
    max_f1_drop: float = 1.0,
    opset: int = OPSET,
    batch_size: int = 32,
    record: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Export a checkpoint, quantize it, and judge torch, ONNX and int8 on the same questions.

    Writes ``onnx``, ``onnx_int8`` and ``export.json`` into output_dir and prints a table.

    Args:
        name: folder or model id.
        loading: how the model is loaded.
        data_args: the questions.
        output_dir: default: the folder of the model.
        int8: quantize, too.
        max_f1_drop: the most F1, in points, that int8 may lose against torch.
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
    if max_f1_drop < 0:
        raise UserError(f"max_f1_drop is {max_f1_drop}, but must be at least 0.")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1.")
    if output_dir is None and not Path(name).is_dir():
        raise UserError(f"output_dir is not set, but the model {name} is no folder to write into.")
    output = Path(name if output_dir is None else output_dir)
    fp32, quantized = output / "onnx", output / "onnx_int8"
    model = load_model(name, role="model", args=loading)
    tokenizer = load_tokenizer(name, loading)
    evaluation = load_evaluation_data(data_args, tokenizer)
    console = Console()
    with contextlib.ExitStack() as stack:
        with console.status("Exporting"):
            difference = export_onnx(model, tokenizer, fp32, opset=opset)
        models: dict[str, SpanModel] = {
            "torch": model,
            "onnx": OnnxQuestionAnsweringModel.from_pretrained(fp32),
        }
        megabytes = {
            "torch": size(model)["megabytes_fp32"],
            "onnx": _megabytes(fp32 / FP32_NAME),
        }
        if int8:
            with console.status("Quantizing"):
                staged = stack.enter_context(_aside(quantized))
                _write_int8(fp32, staged)
            models["onnx int8"] = OnnxQuestionAnsweringModel.from_pretrained(staged)
            megabytes["onnx int8"] = _megabytes(staged / INT8_NAME)
        rows = _judge(models, evaluation, tokenizer, batch_size)
        for key, row in rows.items():
            row["megabytes"] = megabytes[key]
        loss = rows["torch"]["f1"] - rows["onnx int8"]["f1"] if int8 else 0.0
        refused = loss > max_f1_drop
        report = {
            "models": rows,
            "questions": len(evaluation.examples),
            "signature": evaluation.signature,
            "opset": opset,
            "logit_difference": difference,
            "int8_refused": refused,
            "threads": torch.get_num_threads(),
            "environment": environment() | {package: version(package) for package in PACKAGES},
            **(record or {}),
        }
        with writing(output / EXPORT_NAME):
            write_json(output / EXPORT_NAME, report)
        _print_table(report)
        if refused:
            earlier = " and the one made before stays" if quantized.is_dir() else ""
            raise UserError(
                f"int8 loses {loss:.2f} F1 on {len(evaluation.examples)} questions, more than "
                f"max_f1_drop={max_f1_drop:g}: it is not kept{earlier}; the fp32 export is in {fp32}."
            )
    return report


class _Logits(nn.Module):
    """A model with tensors for inputs and outputs, as the exporter wants them."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return output.start_logits, output.end_logits


def _reference(model: PreTrainedModel) -> PreTrainedModel:
    """The model's weights in a fresh model: fp32, on the CPU, with eager attention, whose graph is the smallest.

    A deep copy would take along the autocast that accelerate puts around the forward of a model in training.
    """
    with torch.random.fork_rng(devices=[]):  # its first weights are random
        reference = AutoModelForQuestionAnswering.from_config(
            copy.deepcopy(model.config), attn_implementation="eager", dtype=torch.float32
        )
    reference.load_state_dict(model.state_dict())
    if sum(p.numel() * p.element_size() for p in reference.parameters()) > _LARGEST_GRAPH:
        raise UserError(
            "the model has more than 2 GB of weights in fp32, which one ONNX file cannot hold."
        )
    return reference.eval()


def _write_graph(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, opset: int
) -> None:
    import onnx

    accepted = set(inspect.signature(model.forward).parameters) & set(tokenizer.model_input_names)
    names = [name for name in INPUT_NAMES if name in accepted | {"input_ids", "attention_mask"}]
    # Sizes of 1 would become constants of the graph.
    inputs = _random_inputs(model, set(names), 2, 8)
    axes = {
        0: torch.export.Dim("batch", min=1),
        1: torch.export.Dim("length", min=1, max=_longest_input(model)),
    }
    try:
        with _quiet():
            program = torch.onnx.export(
                _Logits(model),
                kwargs=inputs,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(inputs, axes),
                input_names=names,
                output_names=list(OUTPUT_NAMES),
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            f"torch cannot export {type(model).__name__} with opset {opset}: {reason}."
        ) from error
    assert program is not None
    graph = program.model_proto
    # The exporter notes the lines of source behind each node, with the paths of this machine.
    for item in (graph, graph.graph, *graph.graph.node, *graph.graph.value_info):
        del item.metadata_props[:]
        item.doc_string = ""
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def _write_int8(folder: Path, staged: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not (folder / FP32_NAME).is_file():
        raise UserError(f"{folder} holds no {FP32_NAME}; scripts/export_onnx.py makes one.")
    # The pre-processing that quantize_dynamic asks for changes nothing: the exporter has folded and inferred already.
    with _quiet():
        quantize_dynamic(
            folder / FP32_NAME,
            staged / INT8_NAME,
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            per_channel=True,
            weight_type=QuantType.QInt8,  # unsigned weights are as accurate and slower
            # Without VNNI instructions a CPU adds up products of 8 by 8 bits in 16, which overflow; 7 bits do not.
            reduce_range=True,
        )
    for path in folder.iterdir():
        if path.name not in (FP32_NAME, RESULTS_NAME):
            shutil.copy(path, staged)


def _random_inputs(
    model: PreTrainedModel, names: set[str], batch: int, length: int
) -> dict[str, torch.Tensor]:
    """Random tokens; each row but the first has one token less than the one before, and padding in its place."""
    length = max(length, 1)
    generator = torch.Generator().manual_seed(batch * length)
    ends = (length - torch.arange(batch)).clamp(min=1)
    shape = (batch, length)
    inputs = {
        "input_ids": torch.randint(model.config.vocab_size, shape, generator=generator),
        "attention_mask": (torch.arange(length) < ends[:, None]).long(),
        "token_type_ids": (torch.arange(length) >= length // 3).long().repeat(batch, 1),
    }
    return {name: inputs[name] for name in INPUT_NAMES if name in names}


def _longest_input(model: PreTrainedModel) -> int:
    """Tokens for which the model has positions."""
    # RoBERTa and its kin, all of which pad with 1, count positions from 2.
    offset = 2 if model.config.pad_token_id == 1 else 0
    return model.config.max_position_embeddings - offset


def _judge(
    models: dict[str, SpanModel],
    evaluation: EvaluationData,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """EM, F1, speed and agreement with torch, one row a model."""
    collate = collator(tokenizer)
    logits = span_logits(models, evaluation.features, collate, batch_size=batch_size)
    milliseconds = milliseconds_per_question(models, evaluation.features, collate)
    rows, answers = {}, {}
    for name, (start, end, seconds) in logits.items():
        outputs: Any = {"predictions": (start, end), "label_ids": None}  # typed as single arrays
        metrics = evaluation.metrics(EvalPrediction(**outputs))
        answers[name] = evaluation.metrics.predictions
        same = sum(answers["torch"][i] == answer for i, answer in answers[name].items())
        rows[name] = {
            **metrics,
            "same_answers": 100 * same / len(answers[name]),
            "questions_per_second": len(answers[name]) / seconds,
            "milliseconds_per_question": milliseconds[name],
        }
    return rows


def _print_table(report: dict[str, Any]) -> None:
    table = Table(
        title=f"{report['questions']} questions, {report['threads']} threads, opset {report['opset']}",
        title_justify="left",
    )
    table.add_column("model")
    for column in ("MB", "EM", "F1", "as torch", "questions/s", "ms/question"):
        table.add_column(column, justify="right")
    for name, row in report["models"].items():
        table.add_row(
            name,
            f"{row['megabytes']:.1f}",
            f"{row['exact_match']:.2f}",
            f"{row['f1']:.2f}",
            f"{row['same_answers']:.1f} %",
            f"{row['questions_per_second']:.1f}",
            f"{row['milliseconds_per_question']:.1f}",
        )
    Console().print(table)


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `folder` at the end, or is removed after an exception.

    Raises:
        UserError: `folder` is a file or holds what this export does not write, so that replacing it would lose
            something; or writing failed.
    """
    staged = folder.with_name(f".incomplete-{folder.name}")
    with writing(folder, "Nothing there has changed."):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        try:
            yield staged
            if folder.is_file():
                raise UserError(f"{folder} is a file, but must be a folder.")
            written = {path.name for path in staged.iterdir()} | {RESULTS_NAME}
            others = sorted(
                {path.name for path in folder.iterdir()} - written if folder.is_dir() else ()
            )
            if others:
                raise UserError(
                    f"{folder} holds {others[0]}, which is no part of an export; name another folder."
                )
            replace_folder(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, in the log or otherwise: exporter and quantizer have many, none of them for a user. Errors pass."""
    level, handlers = logging.root.manager.disable, logging.root.handlers[:]
    logging.disable(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        logging.root.handlers[:] = handlers  # the quantizer logs to the root, which installs one
