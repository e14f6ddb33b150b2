"""Export an encoder with a head to ONNX, to int8 and to int4, and hold the graph against torch."""

from __future__ import annotations

import copy
import inspect
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import CONFIG_NAME

from itrd_nlp.errors import UserError, first_line
from itrd_nlp.files import replacing_folder, write_json
from itrd_nlp.models.encode import LOGITS
from itrd_nlp.models.lengths import longest_input
from itrd_nlp.models.low_bits import rounded_state
from itrd_nlp.models.onnx_model import (
    FP32_NAME,
    GRAPHS,
    INPUT_NAMES,
    OnnxModel,
    require_packages,
)
from itrd_nlp.models.onnx_record import OPSET, OPSETS, RECORD_NAME
from itrd_nlp.models.onnx_weights import quiet, write_quantized
from itrd_nlp.models.peft_adapters import merged
from itrd_nlp.models.quantised import refuse_quantised
from itrd_nlp.models.tokenizing import TOKENIZER_PATTERNS, vocabulary_size

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_LARGEST_GRAPH = 2_000_000_000  # bytes that fit into one protobuf file


def export_files(form: str) -> tuple[str, ...]:
    """Patterns of the names in the folder of an exported form, whichever tokenizer its model had."""
    return (GRAPHS[form], CONFIG_NAME, RECORD_NAME, *TOKENIZER_PATTERNS)


def export_onnx(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    *,
    opset: int = OPSET,
    tolerance: float = 1e-4,
    record: Mapping[str, Any] | None = None,
) -> float:
    """Export a model to ``folder/model.onnx``, in fp32, with the tokenizer and the configuration beside it.

    The graph takes `input_ids`, `attention_mask` and, where the tokenizer makes them, `token_type_ids`, int64 of any
    shape (batch, length) up to the model's longest input. It returns the logits of the head, float32. It is
    checked by `onnx.checker` and its logits under ONNX Runtime are compared with torch's, see `logit_difference`. The
    folder appears when all of this is done; an earlier export in its place is there until then.

    Args:
        model: an encoder with any head that returns logits. It is not changed. Adapters of PEFT are merged.
        tokenizer: the model's.
        folder: where the export goes.
        opset: version of the ONNX operators, 18 to 23.
        tolerance: the largest difference of logits that is allowed.
        record: the content of the results.json that goes along. Default: the file in the folder from which the model
            was loaded is copied, if there is one.

    Returns:
        The largest difference of logits.

    Raises:
        UserError: a package of the extra is missing; torch cannot export the model, or it is quantised or has no head;
            the logits differ by more; the folder holds something else.

    Example:
        >>> export_onnx(model, tokenizer, "runs/my_student/onnx")  # doctest: +SKIP
        5.7e-06
    """
    require_packages(*PACKAGES)
    if opset not in OPSETS:
        raise UserError(f"opset is {opset}, but must be {OPSETS[0]} to {OPSETS[-1]}.")
    with replacing_folder(Path(folder), "an export", export_files("fp32")) as staged:
        model = _plain(model)
        reference = _reference(model)
        _write_graph(reference, tokenizer, staged / FP32_NAME, opset)
        model.config.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        # A model that was not loaded has the empty name, which would be the current folder.
        if record is not None:
            write_json(staged / RECORD_NAME, record)
        elif model.name_or_path and (Path(model.name_or_path) / RECORD_NAME).is_file():
            shutil.copy(Path(model.name_or_path) / RECORD_NAME, staged)
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
    Of results.json only task and lengths go along: its figures are not those of this model.

    Args:
        folder: what `export_onnx` wrote.
        out: where the quantized model goes; it appears when it is whole.

    Raises:
        UserError: a package of the extra is missing, ``folder`` holds no model.onnx, or ``out`` lies in ``folder`` or
            holds something else.
    """
    _quantize(Path(folder), Path(out), "int8")


def quantize_int4(folder: str | Path, out: str | Path) -> None:
    """Quantize ``folder/model.onnx`` to ``out/model_int4.onnx``, with tokenizer and configuration beside it.

    Weights of linear layers become 4 bits (`MatMulNBits` of ONNX Runtime), with a scale and a zero point for each 32
    weights of a column. A weight that was trained in 4 bits or fewer (``weight_bits``) keeps its values: its column has
    one scale, and zero is exact. Embeddings become 8 bits, as in `quantize_int8`. Activations stay in fp32.
    Of results.json only task and lengths go along: its figures are not those of this model.

    Args:
        folder: what `export_onnx` wrote.
        out: where the quantized model goes; it appears when it is whole.

    Raises:
        UserError: a package of the extra is missing, ``folder`` holds no model.onnx, or ``out`` lies in ``folder`` or
            holds something else.
    """
    _quantize(Path(folder), Path(out), "int4")


def _quantize(folder: Path, out: Path, form: str) -> None:
    require_packages(*PACKAGES)
    if out.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"out {out} is {folder} or lies in it, but must be a folder elsewhere, such as beside it."
        )
    with replacing_folder(out, "an export", export_files(form)) as staged:
        write_quantized(folder, staged, form)


def logit_difference(model: PreTrainedModel, folder: str | Path) -> float:
    """The largest difference between a model's logits and those of its export.

    Compared over random tokens in batches of 1 to 5 and lengths from 1 to the longest that the model takes (512 at
    most), with and without padding.

    Args:
        model: in fp32, in evaluation mode, on the CPU.
        folder: what `export_onnx` wrote.
    """
    exported = OnnxModel.from_pretrained(folder)
    names = {value.name for value in exported.session.get_inputs()}
    who, longest = type(model).__name__, min(512, _longest_exported(model))
    difference = torch.tensor(0.0)
    for batch, length in ((1, 1), (1, longest), (2, 8), (3, longest // 2), (5, longest // 3)):
        inputs = _random_inputs(model, names, batch, length)
        expected = _outputs(model, inputs, who)
        found = _outputs(exported, inputs, f"the ONNX graph of {who}")
        for name in [name for name in LOGITS if name in expected]:
            difference = torch.maximum(difference, (found[name] - expected[name]).abs().max())
    return float(difference)


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
    ) -> tuple[torch.Tensor, ...]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return tuple(output[name] for name in LOGITS if name in output)


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its adapters merged. One whose weights the exporter cannot read is refused."""
    refuse_quantised(model, type(model).__name__)
    plain: PreTrainedModel = merged(model)
    return plain


def _reference(model: PreTrainedModel) -> PreTrainedModel:
    """The weights that a model reads in a fresh model: fp32, on the CPU, with eager attention, the smallest graph.

    A deep copy would take along the autocast that accelerate puts around the forward of a model in training.
    """
    with torch.random.fork_rng(devices=[]):  # its first weights are random
        reference: PreTrainedModel = type(model)._from_config(
            copy.deepcopy(model.config), attn_implementation="eager", dtype=torch.float32
        )
    reference.load_state_dict(rounded_state(model))
    if sum(p.numel() * p.element_size() for p in reference.parameters()) > _LARGEST_GRAPH:
        raise UserError(
            "the model has more than 2 GB of weights in fp32, which one ONNX file cannot hold."
        )
    reference.eval()
    return reference


def _write_graph(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, opset: int
) -> None:
    import onnx

    accepted = set(inspect.signature(model.forward).parameters) & set(tokenizer.model_input_names)
    names = [name for name in INPUT_NAMES if name in accepted | {"input_ids", "attention_mask"}]
    # Sizes of 1 would become constants of the graph.
    inputs = _random_inputs(model, set(names), 2, 8)
    found = _outputs(model, inputs, type(model).__name__)
    outputs = [name for name in LOGITS if name in found]
    if not outputs:
        raise UserError(f"{type(model).__name__} returns no logits, so it has no head to export.")
    axes = {
        0: torch.export.Dim("batch", min=1),
        1: torch.export.Dim("length", min=1, max=_longest_exported(model)),
    }
    try:
        with quiet():
            program = torch.onnx.export(
                _Logits(model),
                kwargs=inputs,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(inputs, axes),
                input_names=names,
                output_names=outputs,
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


def _outputs(model: Any, inputs: dict[str, torch.Tensor], who: str) -> Any:
    """Run a model, or a graph, which the sentence names.

    Raises:
        UserError: it cannot read random tokens; the sentence has its reason.
    """
    try:
        with torch.inference_mode():
            return model(**inputs)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # each architecture has its own ways to fail
        shape = tuple(inputs["input_ids"].shape)
        raise UserError(
            f"{who} does not run on random tokens of the shape {shape}, so there is no export: {first_line(error)}"
        ) from error


def _random_inputs(
    model: PreTrainedModel, names: set[str], batch: int, length: int
) -> dict[str, torch.Tensor]:
    """Random tokens; each row but the first has one token less than the one before, and padding in its place.

    Classifiers of an encoder and a decoder read the state of the token that ends a text, so each row has one.
    """
    length = max(length, 1)
    generator = torch.Generator().manual_seed(batch * length)
    ends = (length - torch.arange(batch)).clamp(min=1)
    shape = (batch, length)
    ids = torch.randint(vocabulary_size(model.config) or 128, shape, generator=generator)
    end = getattr(model.config, "eos_token_id", None)  # that of MobileBERT has no such field
    if model.config.is_encoder_decoder and isinstance(end, int):
        ids[ids == end] = end - 1 if end else 1
        ids[torch.arange(batch), ends - 1] = end
    inputs = {
        "input_ids": ids,
        "attention_mask": (torch.arange(length) < ends[:, None]).long(),
        "token_type_ids": (torch.arange(length) >= length // 3).long().repeat(batch, 1),
    }
    if getattr(model.config, "type_vocab_size", 2) < 2:  # a RoBERTa has one type
        inputs["token_type_ids"].zero_()
    return {name: inputs[name] for name in INPUT_NAMES if name in names}


def _longest_exported(model: PreTrainedModel) -> int:
    """Tokens that the model takes, or for which it was configured where it takes any number."""
    return longest_input(model) or getattr(model.config, "max_position_embeddings", None) or 512
