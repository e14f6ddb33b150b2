"""Weights of an exported graph in 8 or 4 bits, by the quantizers of ONNX Runtime."""

from __future__ import annotations

import contextlib
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from itrd_nlp.errors import UserError
from itrd_nlp.models.low_bits import row_steps
from itrd_nlp.models.onnx_model import FP32_NAME, GRAPHS
from itrd_nlp.models.onnx_record import RECORD_NAME, write_unmeasured

QUANTIZED_OPERATORS = ("MatMul", "Gather")  # linear layers and embeddings
BLOCK = 32
"""Weights of a column that share a scale in 4 bits."""
_ZERO = 8  # that of MatMulNBits: 0 to 15 stand for -8 to 7
_BITS = 4


def write_quantized(folder: Path, staged: Path, form: str) -> None:
    """Quantize ``folder/model.onnx`` into another folder, with tokenizer and configuration beside it.

    Args:
        folder: what `itrd_nlp.models.onnx_export.export_onnx` wrote.
        staged: an empty folder.
        form: ``int8`` or ``int4``.

    Raises:
        UserError: ``folder`` holds no model.onnx, or this ONNX Runtime has no operator for the form.
    """
    if not (folder / FP32_NAME).is_file():
        raise UserError(f"{folder} holds no {FP32_NAME}; `itrd-nlp export-onnx` makes one.")
    with quiet():
        if form == "int8":
            _write_int8(folder / FP32_NAME, staged / GRAPHS[form], QUANTIZED_OPERATORS)
        else:
            _write_int4(folder / FP32_NAME, staged / GRAPHS[form])
    for path in folder.iterdir():
        if path.is_file() and path.name not in (FP32_NAME, RECORD_NAME):
            shutil.copy(path, staged)
    write_unmeasured(folder, staged)


def _write_int8(graph: Path, target: Path, operators: tuple[str, ...]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The pre-processing that quantize_dynamic asks for changes nothing: the exporter has folded and inferred already.
    quantize_dynamic(
        graph,
        target,
        op_types_to_quantize=list(operators),
        per_channel=True,
        weight_type=QuantType.QInt8,  # unsigned weights are as accurate and slower
        # Without VNNI instructions a CPU adds up products of 8 by 8 bits in 16, which overflow; 7 bits do not.
        reduce_range=True,
    )


def _write_int4(graph: Path, target: Path) -> None:
    """Linear layers in 4 bits, and embeddings in 8 as in int8, because a lookup gains no time by fewer."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        DefaultWeightOnlyQuantizer,
        MatMulNBitsQuantizer,
    )

    class OnTheGrid(DefaultWeightOnlyQuantizer):  # type: ignore[misc]
        """Keeps the values of a weight that was trained in 4 bits or fewer."""

        def qbits_block_quant(self, fp32weight: Any) -> tuple[Any, Any, Any]:
            packed, scales, zeros = super().qbits_block_quant(fp32weight)
            found = on_the_grid(fp32weight, packed.shape, scales.shape)
            if found is None:
                return packed, scales, zeros
            return *found, np.full_like(zeros, _ZERO | _ZERO << _BITS)

    # Activations stay in fp32, which was faster than to quantize them, too.
    config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=False)
    quantizer = MatMulNBitsQuantizer(onnx.load(graph), algo_config=config)
    quantizer.node_quantizer = OnTheGrid(config)
    quantizer.process()
    onnx.save(quantizer.model.model, target)
    _write_int8(target, target, ("Gather",))


def on_the_grid(
    weight: npt.NDArray[Any], packed: tuple[int, ...], scales: tuple[int, ...]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Pack a weight that was trained in 4 bits or fewer, so that the graph has the values that the training saw.

    Args:
        weight: ``(inputs, outputs)``, float32.
        packed: shape of the packed weight of MatMulNBits, ``(outputs, blocks, bytes)``.
        scales: ``(outputs, blocks)``.

    Returns:
        Two weights a byte, the first one in the lower half, and one scale for each block. None where the weight was not
        trained so.
    """
    rows = torch.from_numpy(np.ascontiguousarray(weight.T, dtype=np.float32))
    steps = row_steps(rows, _BITS)
    if steps is None:
        return None
    levels = (rows / steps).round().to(torch.int64) + _ZERO
    padded = np.full((len(rows), packed[1] * packed[2] * 2), _ZERO, dtype=np.uint8)
    padded[:, : levels.shape[1]] = levels.numpy()
    content = (padded[:, ::2] | padded[:, 1::2] << _BITS).reshape(packed)
    return content, np.repeat(steps.numpy(), scales[1], axis=1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
