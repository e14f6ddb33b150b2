"""Run an exported model under ONNX Runtime, called as a model of transformers is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import ModelOutput

from itrd_nlp.errors import UserError
from itrd_nlp.models.encode import LOGITS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FP32_NAME = "model.onnx"
INT8_NAME = "model_int8.onnx"
INT4_NAME = "model_int4.onnx"
GRAPHS = {"fp32": FP32_NAME, "int8": INT8_NAME, "int4": INT4_NAME}
"""Form of the weights to the name of its graph."""
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")


def is_onnx_folder(path: str | Path) -> bool:
    """Whether a folder holds an exported model, one of `GRAPHS`."""
    return any((Path(path) / name).is_file() for name in GRAPHS.values())


def require_packages(*names: str) -> None:
    """Refuse to go on without packages of the extra ``export``.

    Raises:
        UserError: names the first one that is not installed.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"the package {name} is not installed, but ONNX needs it; pip install itrd_nlp[export]."
            )


class OnnxModel(nn.Module):
    """An encoder with a head under ONNX Runtime, on the CPU.

    It takes the place of a `PreTrainedModel` wherever one only answers: in an evaluation loop and in a pipeline.

    Args:
        session: the loaded graph, with the inputs and outputs that an export writes.
        config: the model's configuration.

    Attributes:
        config: the model's configuration.
        device: always the CPU.
        dtype: of the logits, always float32.
        outputs: the logits that the head must return; empty where any of `LOGITS` will do.

    Example:
        >>> model = OnnxModel.from_pretrained("runs/my_student/onnx_int8")  # doctest: +SKIP
        >>> model(**tokenizer(text, return_tensors="pt")).logits  # doctest: +SKIP
    """

    device = torch.device("cpu")
    dtype = torch.float32
    outputs: ClassVar[tuple[str, ...]] = ()
    input_modalities = ("text",)  # the repr of a transformers.Pipeline shows it

    def __init__(self, session: InferenceSession, config: PreTrainedConfig) -> None:
        super().__init__()
        self.session = session
        self.config = config
        self._input_names = {value.name for value in session.get_inputs()}
        returned = {value.name for value in session.get_outputs()}
        self._output_names = [name for name in LOGITS if name in returned]

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, threads: int | None = None, file: str | None = None
    ) -> Self:
        """Load a folder that `itrd_nlp.models.onnx_export.export_onnx` wrote.

        Args:
            folder: holds the graph and config.json.
            threads: of ONNX Runtime; default: as many as torch uses.
            file: name of the graph in the folder; default: the one of `GRAPHS` that is there.

        Raises:
            UserError: onnxruntime is not installed, there is no such file, or it is no graph of such a head.
        """
        require_packages("onnxruntime")
        import onnxruntime

        if threads is not None and threads < 1:
            raise UserError(f"threads is {threads}, but must be at least 1.")
        path = Path(folder) / (file or _only_graph(Path(folder)))
        if not path.is_file():
            raise UserError(f"{path} does not exist.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors
        # Threads that wait busily after a run would take the cores from whatever runs next, such as a model of torch
        # that is measured against this one.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        except Exception as error:  # those of ONNX Runtime have no class in common
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(f"{path} cannot be loaded: {reason}.") from error
        inputs = {value.name for value in session.get_inputs()}
        outputs = {value.name for value in session.get_outputs()}
        fits = outputs >= set(cls.outputs) and not outputs.isdisjoint(LOGITS)
        if not (inputs <= set(INPUT_NAMES) and fits):
            raise UserError(
                f"{path} takes {', '.join(sorted(inputs))} and returns {', '.join(sorted(outputs))}, but must take "
                f"{', '.join(INPUT_NAMES)} and return {', '.join(cls.outputs) or 'logits'}."
            )
        try:
            config = AutoConfig.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} has no usable config.json beside {path.name}.") from error
        return cls(session, config)

    @staticmethod
    def can_generate() -> bool:
        """False: a `transformers.Pipeline` asks."""
        return False

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> ModelOutput:
        """The logits of the head.

        Args:
            input_ids: `(B, L)`, integers.
            attention_mask: `(B, L)`, 1 for a token and 0 for padding.
            token_type_ids: `(B, L)`; default: zeros. Not used where the model has none.

        Returns:
            The logits that the graph returns, float32, on the CPU.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if "token_type_ids" in self._input_names:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(input_ids)
            inputs["token_type_ids"] = token_type_ids
        feeds = {name: tensor.long().cpu().numpy() for name, tensor in inputs.items()}
        found = self.session.run(self._output_names, feeds)
        return ModelOutput(zip(self._output_names, map(torch.from_numpy, found), strict=True))


def _only_graph(folder: Path) -> str:
    names = [name for name in GRAPHS.values() if (folder / name).is_file()]
    if not names:
        raise UserError(
            f"{folder} holds none of {', '.join(GRAPHS.values())}; `itrd-nlp export-onnx` makes them."
        )
    if len(names) > 1:
        raise UserError(f"{folder} holds {' and '.join(names)}; choose one with file=.")
    return names[0]
