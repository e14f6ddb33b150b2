"""A model under ONNX Runtime, with graphs written by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from transformers import BertConfig, BertTokenizerFast, Pipeline

from itrd_nlp.errors import UserError
from itrd_nlp.models.onnx_model import is_onnx_folder
from itrd_nlp.tasks.question_answering.onnx_model import OnnxQuestionAnsweringModel


@pytest.fixture
def write_graph(tmp_path: Path) -> Callable[..., Path]:
    """A graph with start_logits = input_ids * attention_mask, end_logits = start_logits + 100 * the third input."""

    def write(
        name: str = "model.onnx", third: str | None = "token_type_ids", end: str = "end_logits"
    ) -> Path:
        inputs = ["input_ids", "attention_mask", *([third] if third else [])]
        nodes = [
            helper.make_node("Mul", ["input_ids", "attention_mask"], ["masked"]),
            helper.make_node("Cast", ["masked"], ["start_logits"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [third or "masked", "hundred"], ["raised"]),
            helper.make_node("Add", ["masked", "raised"], ["sum"]),
            helper.make_node("Cast", ["sum"], [end], to=TensorProto.FLOAT),
        ]
        shape = ["batch", "length"]
        graph = helper.make_graph(
            nodes,
            "by hand",
            [helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in inputs],
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
                for n in ("start_logits", end)
            ],
            [helper.make_tensor("hundred", TensorProto.INT64, [], [100])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, tmp_path / name)
        BertConfig(vocab_size=77).save_pretrained(tmp_path)
        return tmp_path

    return write


IDS = torch.tensor([[3, 4, 5], [6, 7, 8]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
TYPES = torch.tensor([[0, 0, 1], [0, 1, 1]])


def test_the_logits_are_those_of_the_graph(write_graph: Callable[..., Path]) -> None:
    model = OnnxQuestionAnsweringModel.from_pretrained(write_graph())
    output = model(input_ids=IDS, attention_mask=MASK, token_type_ids=TYPES)
    assert output.start_logits.tolist() == [[3, 4, 5], [6, 7, 0]]
    assert output.end_logits.tolist() == [[3, 4, 105], [6, 107, 100]]
    assert output.start_logits.dtype == model.dtype == torch.float32
    assert output.start_logits.device == model.device == torch.device("cpu")


def test_any_shape_and_kind_of_integer_is_taken(write_graph: Callable[..., Path]) -> None:
    model = OnnxQuestionAnsweringModel.from_pretrained(write_graph())
    for ids in (IDS[:1, :1], IDS.repeat(3, 5), IDS.T):
        output = model(ids.int(), torch.ones(ids.shape, dtype=torch.bool), torch.zeros_like(ids))
        assert torch.equal(output.end_logits, ids.float())


def test_token_types_are_zeros_by_default(write_graph: Callable[..., Path]) -> None:
    model = OnnxQuestionAnsweringModel.from_pretrained(write_graph())
    assert model(IDS, MASK).end_logits.tolist() == [[3, 4, 5], [6, 7, 0]]


def test_token_types_are_left_out_where_the_graph_has_none(
    write_graph: Callable[..., Path],
) -> None:
    model = OnnxQuestionAnsweringModel.from_pretrained(write_graph(third=None))
    assert torch.equal(model(IDS, MASK, TYPES).end_logits, model(IDS, MASK).end_logits)


def test_the_configuration_comes_along(write_graph: Callable[..., Path]) -> None:
    config = OnnxQuestionAnsweringModel.from_pretrained(write_graph()).config
    assert config.model_type == "bert"
    assert config.vocab_size == 77


def test_a_pipeline_of_transformers_takes_it(
    write_graph: Callable[..., Path], bert_tokenizer: BertTokenizerFast
) -> None:
    class Ends(Pipeline):
        def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
            return {}, {}, {}

        def preprocess(self, text: str) -> Any:
            return self.tokenizer(text, return_tensors="pt")

        def _forward(self, inputs: Any) -> Any:
            return self.model(**inputs)

        def postprocess(self, output: Any) -> list[float]:
            return output.end_logits[0].tolist()

    model = OnnxQuestionAnsweringModel.from_pretrained(write_graph())
    pipeline = Ends(model, bert_tokenizer, device=-1)
    assert pipeline("the river") == bert_tokenizer("the river")["input_ids"]
    assert "OnnxQuestionAnsweringModel" in repr(pipeline)


def test_it_runs_with_the_threads_of_torch_or_those_given(
    write_graph: Callable[..., Path],
) -> None:
    def threads(**arguments: int) -> int:
        model = OnnxQuestionAnsweringModel.from_pretrained(write_graph(), **arguments)
        return model.session.get_session_options().intra_op_num_threads

    assert threads() == torch.get_num_threads()
    assert threads(threads=3) == 3
    with pytest.raises(UserError, match="threads is 0, but must be at least 1"):
        threads(threads=0)


@pytest.mark.parametrize("name", ["model.onnx", "model_int8.onnx"])
def test_a_folder_with_either_file_is_an_onnx_folder(
    name: str, write_graph: Callable[..., Path]
) -> None:
    folder = write_graph(name)
    assert is_onnx_folder(folder)
    assert is_onnx_folder(str(folder))
    assert isinstance(OnnxQuestionAnsweringModel.from_pretrained(folder), torch.nn.Module)


def test_other_folders_are_none(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    assert not is_onnx_folder(tmp_path)
    assert not is_onnx_folder(tmp_path / "absent")
    with pytest.raises(
        UserError, match=r"holds none of model\.onnx, model_int8\.onnx, model_int4\.onnx"
    ):
        OnnxQuestionAnsweringModel.from_pretrained(tmp_path)


def test_of_two_files_one_must_be_chosen(write_graph: Callable[..., Path]) -> None:
    write_graph("model.onnx")
    folder = write_graph("model_int8.onnx", third=None)
    with pytest.raises(UserError, match=r"model\.onnx and model_int8\.onnx; choose one with file="):
        OnnxQuestionAnsweringModel.from_pretrained(folder)
    chosen = OnnxQuestionAnsweringModel.from_pretrained(folder, file="model_int8.onnx")
    assert len(chosen.session.get_inputs()) == 2
    with pytest.raises(UserError, match=r"other\.onnx does not exist"):
        OnnxQuestionAnsweringModel.from_pretrained(folder, file="other.onnx")


def test_a_file_that_is_no_graph_is_refused_by_name(write_graph: Callable[..., Path]) -> None:
    folder = write_graph()
    (folder / "model.onnx").write_bytes(b"no graph at all")
    with pytest.raises(UserError, match=r"model\.onnx cannot be loaded: .*\.$"):
        OnnxQuestionAnsweringModel.from_pretrained(folder)


@pytest.mark.parametrize("other", [{"third": "pixels"}, {"end": "labels"}])
def test_a_graph_of_another_task_is_refused(
    other: dict[str, str], write_graph: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=f"{next(iter(other.values()))}.*but must take input_ids"):
        OnnxQuestionAnsweringModel.from_pretrained(write_graph(**other))


def test_a_folder_without_configuration_is_refused(write_graph: Callable[..., Path]) -> None:
    folder = write_graph()
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"no usable config\.json beside model\.onnx"):
        OnnxQuestionAnsweringModel.from_pretrained(folder)


def test_without_onnxruntime_the_extra_is_named(
    write_graph: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime.*pip install itrd_nlp\[export\]"):
        OnnxQuestionAnsweringModel.from_pretrained(write_graph())
