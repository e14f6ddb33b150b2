"""Real exports of tiny models, held against torch."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertForQuestionAnswering,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    PreTrainedModel,
    RobertaConfig,
    RobertaForQuestionAnswering,
)

from itrd_nlp.errors import UserError
from itrd_nlp.models import onnx_export as export
from itrd_nlp.models.low_bits import prepare_qat, rounded_state
from itrd_nlp.models.onnx_export import (
    export_onnx,
    logit_difference,
    quantize_int4,
    quantize_int8,
)
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks import task_of
from itrd_nlp.tasks.jobs import export as export_job
from itrd_nlp.tasks.jobs.speed import model_logits
from itrd_nlp.tasks.question_answering import QuestionAnsweringCollator, decode_spans
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.data import load_evaluation_data
from itrd_nlp.tasks.question_answering.onnx_model import OnnxQuestionAnsweringModel
from itrd_nlp.tasks.question_answering.pipeline import load_pipeline
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.tasks.trained import trained_lengths
from itrd_nlp.training.record import RunRecord


def export_checkpoint(
    name: str, loading: LoadingArguments, data_args: DataArguments, **options: Any
) -> Any:
    """The job on SQuAD."""
    return export_job.export(QuestionAnswering(data_args), name, loading, **options)


ROOT = Path(__file__).parents[2]
WORDS = [f"w{i}" for i in range(59)]
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}


def make_tokenizer() -> BertTokenizerFast:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)})


def make_model() -> BertForQuestionAnswering:
    torch.manual_seed(0)
    return BertForQuestionAnswering(BertConfig(**SHAPE)).eval()


def cripple_int8(model: BertForQuestionAnswering) -> None:
    """One huge activation that no weight reads: fp32 does not see it, 8 bits have room for nothing else."""
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.intermediate.dense.bias[0] = 1e4
            layer.output.dense.weight[:, 0] = 0


def write_checkpoint(folder: Path, model: PreTrainedModel) -> Path:
    """A model and dev.json, to whose questions the model's own answers are the true ones."""
    tokenizer = make_tokenizer()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "results.json").write_text('{"f1": 100.0}')
    paragraphs = []
    for i in range(24):
        context = " ".join(WORDS[(i * 7 + j * j + j) % 59] for j in range(10 + i))
        answer = {"text": context.partition(" ")[0], "answer_start": 0}
        question = {"id": f"q{i}", "question": f"w{i} w{2 * i}", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [question]})
    content = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
    dev = folder / "dev.json"
    dev.write_text(json.dumps(content))
    data = load_evaluation_data(arguments(folder), tokenizer)
    collator = QuestionAnsweringCollator(tokenizer)
    start, end = model_logits({"": model}, data.features, collator)[""].values
    best = decode_spans(start, end, data.features, data.examples, n_best=1)
    for paragraph in paragraphs:
        (span,) = best[paragraph["qas"][0]["id"]]
        paragraph["qas"][0]["answers"] = [{"text": span.text, "answer_start": span.start}]
    dev.write_text(json.dumps(content))
    return folder


def arguments(folder: Path) -> DataArguments:
    return DataArguments(validation_file=str(folder / "dev.json"), max_length=64, doc_stride=16)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def padded(model: PreTrainedModel, ends: list[int]) -> dict[str, torch.Tensor]:
    """Rows of random tokens that end where `ends` says, then padding."""
    longest = max(ends)
    generator = torch.Generator().manual_seed(longest)
    mask = (torch.arange(longest) < torch.tensor(ends)[:, None]).long()
    ids = torch.randint(5, model.config.vocab_size, mask.shape, generator=generator)
    types = (torch.arange(longest) > longest // 2).long().expand(mask.shape)
    return {
        "input_ids": torch.where(mask == 1, ids, model.config.pad_token_id),
        "attention_mask": mask,
        "token_type_ids": types * mask,
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), make_model())


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> PreTrainedModel:
    loaded = BertForQuestionAnswering.from_pretrained(checkpoint, attn_implementation="sdpa")
    return loaded.train()


@pytest.fixture(scope="module")
def exported(model: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a model in training mode, with dropout and another attention than the export takes."""
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    before, random_state = vars(model).copy(), torch.get_rng_state()
    difference = export_onnx(model, make_tokenizer(), folder)
    assert 0 < difference < 1e-4
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert vars(model).keys() == before.keys()
    assert torch.equal(torch.get_rng_state(), random_state)
    return folder


@pytest.fixture(scope="module")
def int8(exported: Path) -> Path:
    quantize_int8(exported, exported.parent / "onnx_int8")
    return exported.parent / "onnx_int8"


@pytest.fixture(scope="module")
def int4(exported: Path) -> Path:
    quantize_int4(exported, exported.parent / "onnx_int4")
    return exported.parent / "onnx_int4"


@pytest.fixture
def no_exporter(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of `exported` in place of a fresh one, which takes seconds."""
    monkeypatch.setattr(
        export, "_write_graph", lambda model, tokenizer, path, opset: copy(exported, path)
    )


def copy(folder: Path, path: Path) -> None:
    shutil.copy(folder / "model.onnx", path)


@pytest.mark.parametrize(
    "ends",
    [[1], [2], [64], [1, 1], [3, 1], [64, 2], [17, 17, 16], [40, 1, 39, 2, 33, 8, 25]],
    ids=str,
)
def test_logits_are_those_of_torch_for_any_shape_and_padding(
    ends: list[int], model: PreTrainedModel, exported: Path
) -> None:
    batch = padded(model, ends)
    expected = make_model_like(model)(**batch)
    found = OnnxQuestionAnsweringModel.from_pretrained(exported)(**batch)
    torch.testing.assert_close(found.start_logits, expected.start_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.end_logits, expected.end_logits, atol=1e-5, rtol=0)


def make_model_like(model: PreTrainedModel) -> Callable[..., Any]:
    """The same model without dropout and gradients."""

    @torch.no_grad()
    def call(**batch: torch.Tensor) -> Any:
        model.eval()
        try:
            return model(**batch)
        finally:
            model.train()

    return call


def test_the_pipeline_gives_the_same_answers(checkpoint: Path, exported: Path) -> None:
    data = load_evaluation_data(arguments(checkpoint), make_tokenizer()).examples
    questions, contexts = list(data["question"]), list(data["context"])
    of_torch, of_onnx = (
        load_pipeline(folder, batch_size=4)(question=questions, context=contexts)
        for folder in (checkpoint, exported)
    )
    assert len(of_onnx) == len(questions)
    for expected, found in zip(of_torch, of_onnx, strict=True):
        assert found.pop("score") == pytest.approx(expected.pop("score"), abs=1e-4)
        assert found == expected


def test_padding_does_not_change_the_logits_of_a_row(
    model: PreTrainedModel, exported: Path
) -> None:
    onnx_model = OnnxQuestionAnsweringModel.from_pretrained(exported)
    batch = padded(model, [9, 30, 64])
    alone = {name: rows[:1, :9] for name, rows in batch.items()}
    torch.testing.assert_close(
        onnx_model(**batch).start_logits[:1, :9],
        onnx_model(**alone).start_logits,
        atol=1e-5,
        rtol=0,
    )


def test_the_graph_is_valid_and_says_its_opset_and_axes(exported: Path) -> None:
    graph = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", export.OPSET)]
    axes = {
        value.name: [d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in [*graph.graph.input, *graph.graph.output]
    }
    names = ["input_ids", "attention_mask", "token_type_ids", "start_logits", "end_logits"]
    assert axes == {name: ["batch", "length"] for name in names}


def test_an_export_stands_alone_and_names_no_folder_of_its_maker(
    checkpoint: Path, exported: Path
) -> None:
    assert AutoConfig.from_pretrained(exported).architectures == ["BertForQuestionAnswering"]
    assert AutoTokenizer.from_pretrained(exported).get_vocab() == make_tokenizer().get_vocab()
    assert (exported / "results.json").read_bytes() == (checkpoint / "results.json").read_bytes()
    assert not (exported / "model.safetensors").exists()
    for name, content in contents(exported).items():
        for secret in (str(ROOT), "site-packages", str(checkpoint), os.uname().nodename):
            assert secret.encode() not in content, f"{name} holds {secret}"


def test_other_weights_are_noticed(model: PreTrainedModel, exported: Path, tmp_path: Path) -> None:
    folder = tampered(exported, tmp_path / "tampered")
    reference = make_model()
    assert logit_difference(reference, exported) < 1e-4
    assert logit_difference(reference, folder) > 1e-3


def tampered(exported: Path, folder: Path) -> Path:
    """The export with one bias moved by a hundredth."""
    shutil.copytree(exported, folder)
    graph = onnx.load(folder / "model.onnx")
    (bias,) = [t for t in graph.graph.initializer if t.name.endswith("qa_outputs.bias")]
    moved = onnx.numpy_helper.to_array(bias) + 0.01
    bias.CopyFrom(onnx.numpy_helper.from_array(moved, bias.name))
    onnx.save(graph, folder / "model.onnx")
    return folder


def test_an_export_with_other_logits_is_refused_and_the_one_before_stays(
    model: PreTrainedModel, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tampered(exported, tmp_path / "tampered")
    monkeypatch.setattr(
        export, "_write_graph", lambda model, tokenizer, path, opset: copy(wrong, path)
    )
    folder = tmp_path / "run" / "onnx"
    shutil.copytree(exported, folder)
    before = contents(tmp_path / "run")
    for target in (folder, tmp_path / "run" / "fresh"):
        with pytest.raises(
            UserError, match=r"differ from those of torch by up to 1\.0e-02.*1\.0e-04"
        ):
            export_onnx(model, make_tokenizer(), target)
    assert contents(tmp_path / "run") == before
    assert os.listdir(tmp_path / "run") == ["onnx"]


@pytest.mark.usefixtures("no_exporter")
def test_a_second_export_takes_the_place_of_the_first(
    model: PreTrainedModel, exported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "onnx"
    shutil.copytree(tampered(exported, tmp_path / "tampered"), folder)
    export_onnx(model, make_tokenizer(), folder)
    assert contents(folder) == contents(exported)
    assert sorted(os.listdir(tmp_path)) == ["onnx", "tampered"]


@pytest.mark.usefixtures("no_exporter")
def test_a_folder_with_something_else_in_it_is_not_replaced(
    model: PreTrainedModel, exported: Path, checkpoint: Path, tmp_path: Path
) -> None:
    before = contents(checkpoint)
    with pytest.raises(UserError, match=r"holds dev\.json, which is no part of an export"):
        export_onnx(model, make_tokenizer(), checkpoint)
    with pytest.raises(UserError, match=r"holds dev\.json, which is no part of an export"):
        quantize_int8(exported, checkpoint)
    assert contents(checkpoint) == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file, but must be a folder"):
        export_onnx(model, make_tokenizer(), tmp_path / "file")


def test_the_current_folder_and_those_above_it_are_not_replaced(
    model: PreTrainedModel, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx").mkdir()
    monkeypatch.chdir(tmp_path / "onnx")
    sentence = r"is or holds the current folder, so it cannot be replaced; name another folder"
    for out in (".", "", "..", tmp_path / "onnx", "../onnx/", "/"):
        calls: list[Callable[[], Any]] = [
            lambda out=out: export_onnx(model, make_tokenizer(), out),  # type: ignore[misc]
            lambda out=out: quantize_int8(exported, out),  # type: ignore[misc]
            lambda out=out: quantize_int4(exported, out),  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(UserError, match=sentence):
                call()
    assert os.listdir(tmp_path) == ["onnx"]
    with pytest.raises(
        UserError, match="output_dir .*" + sentence
    ):  # before the model is looked for
        export_checkpoint("missing", LoadingArguments(), arguments(tmp_path), output_dir="..")


@pytest.mark.parametrize("opset", [17, 24])
def test_an_opset_that_torch_does_not_write_is_refused(
    opset: int, model: PreTrainedModel, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"opset is {opset}, but must be 18 to 23"):
        export_onnx(model, make_tokenizer(), tmp_path / "onnx", opset=opset)


def test_a_model_too_large_for_one_file_is_refused(
    model: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_LARGEST_GRAPH", 4 * model.num_parameters() - 1)
    with pytest.raises(UserError, match="more than 2 GB of weights in fp32"):
        export_onnx(model, make_tokenizer(), tmp_path / "onnx")
    assert os.listdir(tmp_path) == []


def test_what_torch_cannot_export_is_one_sentence(
    model: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise torch.onnx.errors.OnnxExporterError("long\nstory") from ValueError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"cannot export BertForQ.* opset 20: no such operator"):
        export_onnx(model, make_tokenizer(), tmp_path / "onnx")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(
    package: str,
    model: PreTrainedModel,
    exported: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    calls: list[Callable[[], Any]] = [
        lambda: export_onnx(model, make_tokenizer(), tmp_path / "onnx"),
        lambda: quantize_int8(exported, tmp_path / "int8"),
        lambda: export_checkpoint(str(checkpoint), LoadingArguments(), arguments(checkpoint)),
    ]
    for call in calls:
        with pytest.raises(UserError, match=rf"{package} is .*pip install itrd_nlp\[export\]"):
            call()


def test_int8_is_smaller_and_answers_nearly_the_same(
    checkpoint: Path, exported: Path, int8: Path
) -> None:
    assert (int8 / "model_int8.onnx").stat().st_size < 0.75 * (
        exported / "model.onnx"
    ).stat().st_size
    tokenizer = AutoTokenizer.from_pretrained(int8)
    data = load_evaluation_data(arguments(checkpoint), tokenizer)
    models = {
        "fp32": OnnxQuestionAnsweringModel.from_pretrained(exported),
        "int8": OnnxQuestionAnsweringModel.from_pretrained(int8),
    }
    logits = model_logits(models, data.features, QuestionAnsweringCollator(tokenizer))
    fp32, eight_bits = (torch.tensor(logits[name].values[0]).flatten() for name in models)
    assert torch.corrcoef(torch.stack([fp32, eight_bits]))[0, 1] > 0.99
    spans = [
        decode_spans(start, end, data.features, data.examples, n_best=1)
        for start, end in (found.values for found in logits.values())
    ]
    same = [spans[0][i][0].text == spans[1][i][0].text for i in data.examples["id"]]
    assert sum(same) > 0.6 * len(same)  # random weights have many answers that are nearly as good


def test_int8_quantizes_linear_layers_and_embeddings(int8: Path) -> None:
    graph = onnx.load(int8 / "model_int8.onnx").graph
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    linear = [tensors[n.input[1]] for n in graph.node if n.op_type == "MatMulInteger"]
    assert len(linear) == 2 * 6 + 1  # two layers and the head
    for weight in linear:
        assert weight.dtype == "int8"
        assert abs(weight.astype(int)).max() <= 64  # 7 bits: 2 * 255 * 64 fits into 16 with a sign
    (words,) = [t for name, t in tensors.items() if "word_embeddings" in name and t.ndim == 2]
    assert words.dtype == "uint8"


def test_int8_has_a_scale_for_every_column(exported: Path, int8: Path) -> None:
    def of(folder: Path, name: str) -> dict[str, Any]:
        graph = onnx.load(folder / name).graph
        return {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}

    before, after = of(exported, "model.onnx"), of(int8, "model_int8.onnx")
    linear = [n for n in before if n not in after and after[f"{n}_scale"].ndim == 1]
    assert len(linear) == 2 * 6 + 1
    for name in linear:
        scale = after[f"{name}_scale"]
        assert scale.shape == before[name].shape[1:]
        error = abs(after[f"{name}_quantized"] * scale - before[name]).max(axis=0)
        assert (error <= 0.51 * scale).all()


def weights_of_4_bits(folder: Path) -> dict[str, torch.Tensor]:
    """Name of a linear layer of an int4 graph to its weight ``(outputs, inputs)``, read as the operator defines it.

    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftmatmulnbits
    """
    graph = onnx.load(folder / "model_int4.onnx").graph
    tensors = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in graph.initializer}
    found = {}
    for node in [node for node in graph.node if node.op_type == "MatMulNBits"]:
        settings = {a.name: a.i for a in node.attribute}
        assert (settings["bits"], settings["block_size"]) == (4, 32)
        packed, scales, zeros = (tensors[name] for name in node.input[1:])
        levels = torch.stack([packed & 15, packed >> 4], -1).reshape(*scales.shape, 32)
        zeros = torch.stack([zeros & 15, zeros >> 4], -1).reshape(len(scales), -1)
        zeros = zeros[:, : scales.shape[1]]
        values = (levels.float() - zeros[..., None].float()) * scales[..., None]
        found[node.input[1].removesuffix("_Q4")] = values.flatten(1)[:, : settings["K"]]
    return found


def test_int4_has_linear_layers_of_4_bits_and_embeddings_of_8(
    exported: Path, int8: Path, int4: Path
) -> None:
    sizes = [
        (folder / name).stat().st_size
        for folder, name in ((exported, "model.onnx"), (int8, "model_int8.onnx"))
    ]
    assert (int4 / "model_int4.onnx").stat().st_size < min(sizes)
    graph = onnx.load(exported / "model.onnx").graph
    before = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in graph.initializer}
    found = weights_of_4_bits(int4)
    assert len(found) == 2 * 6 + 1
    for name, values in found.items():
        blocks = before[name].T.unflatten(1, (-1, 32))
        step = (blocks.amax(-1).clamp(min=0) - blocks.amin(-1).clamp(max=0)) / 15
        error = (values.unflatten(1, (-1, 32)) - blocks).abs().amax(-1)
        assert (error <= 1.01 * step).all()  # half a step of the value and half a step of the zero
    (words,) = [
        onnx.numpy_helper.to_array(t)
        for t in onnx.load(int4 / "model_int4.onnx").graph.initializer
        if "word_embeddings" in t.name and len(t.dims) == 2
    ]
    assert words.dtype == "uint8"


@pytest.mark.parametrize("bits", [1, 3, 4])
def test_int4_has_the_values_that_a_training_in_few_bits_saw(
    bits: int, exported: Path, tmp_path: Path
) -> None:
    """The weights of the graph are replaced, because the exporter takes seconds and changes none."""
    model = make_model()
    prepare_qat(model, bits)
    trained = list(rounded_state(model).values())
    graph = onnx.load(exported / "model.onnx")
    plain = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in graph.graph.initializer}
    state = make_model().state_dict()
    expected = {}
    for tensor in graph.graph.initializer:
        for before, after in zip(state.values(), trained, strict=True):
            if plain[tensor.name].ndim == 2 and torch.equal(plain[tensor.name].T, before):
                content = after.T.contiguous().numpy()
                tensor.CopyFrom(onnx.numpy_helper.from_array(content, tensor.name))
                expected[tensor.name] = after
    shutil.copytree(exported, tmp_path / "onnx")
    onnx.save(graph, tmp_path / "onnx" / "model.onnx")
    quantize_int4(tmp_path / "onnx", tmp_path / "int4")
    found = weights_of_4_bits(tmp_path / "int4")
    assert found.keys() == expected.keys()
    (head,) = [name for name, values in expected.items() if values.shape[0] == 2]
    for name in expected.keys() - {head}:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-6)


def test_int4_answers_nearly_the_same(checkpoint: Path, int4: Path) -> None:
    qa = load_pipeline(int4)
    data = load_evaluation_data(arguments(checkpoint), make_tokenizer()).examples
    answers = qa(question=list(data["question"]), context=list(data["context"]))
    same = [
        answer["answer"] in row["answers"]["text"]
        for answer, row in zip(answers, data, strict=True)
    ]
    assert sum(same) > 0.2 * len(same)  # random weights have many answers that are nearly as good


def test_the_results_of_fp32_are_not_passed_off_as_those_of_the_quantized_forms(
    exported: Path, int8: Path, int4: Path
) -> None:
    shared = set(os.listdir(exported)) - {"model.onnx"}
    assert set(os.listdir(int8)) == shared | {"model_int8.onnx"}
    assert set(os.listdir(int4)) == shared | {"model_int4.onnx"}
    record = RunRecord.read(exported)
    assert record is not None
    assert record.scores == {"f1": 100}
    for folder in (int8, int4):
        record = RunRecord.read(folder)
        assert record is not None
        assert record.scores == {}


@pytest.mark.usefixtures("no_exporter")
def test_every_form_of_a_checkpoint_remembers_task_and_lengths_of_its_run(
    checkpoint: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trained = run / "checkpoint-7"
    shutil.copytree(checkpoint, trained)
    (trained / "results.json").unlink()
    metrics = {"exact_match": "EM", "f1": "F1"}
    scores = {"exact_match": 81.0, "f1": 90.0}
    options = {"max_length": 48, "doc_stride": 12, "train_file": "train.json"}
    RunRecord(
        version=3, task="question-answering", metrics=metrics, scores=scores, arguments=options
    ).write(run)
    data = arguments(trained)
    export_checkpoint(str(trained), LoadingArguments(), data, int4=True, max_f1_drop=100)
    for folder in (run, trained, *(trained / f"onnx{form}" for form in ("", "_int8", "_int4"))):
        assert trained_lengths(str(folder), DataArguments) == {"max_length": 48, "doc_stride": 12}
        if folder.parent == trained:
            record = RunRecord.read(folder)
            assert record is not None
            assert (record.metrics, record.scores) == (metrics, {})  # those of the last step
            assert "train_file" not in record.arguments


def test_a_quantized_form_keeps_the_task_of_its_model(exported: Path, tmp_path: Path) -> None:
    ranker, quantized = tmp_path / "onnx", tmp_path / "onnx_int8"
    shutil.copytree(exported, ranker)
    config = json.loads((ranker / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]  # that of a classifier, too
    (ranker / "config.json").write_text(json.dumps(config))
    RunRecord(version=3, task="reranking", metrics={"mrr": "MRR"}).write(ranker)
    quantize_int8(ranker, quantized)
    assert task_of(quantized).name == task_of(ranker).name == "reranking"


@pytest.mark.usefixtures("no_exporter")
def test_one_form_may_be_refused_while_the_other_is_kept(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export_job.judge_forms

    def worse(*args: Any, **kwargs: Any) -> Any:
        rows = real(*args, **kwargs)
        rows["onnx int8"]["f1"] = rows["torch"]["f1"]
        rows["onnx int4"]["f1"] = rows["torch"]["f1"] - 7
        return rows

    monkeypatch.setattr(export_job, "judge_forms", worse)
    with pytest.raises(UserError, match=r"^int4 loses 7\.00 F1 on 24 questions, more than max_f1_"):
        export_checkpoint(
            str(checkpoint),
            LoadingArguments(),
            arguments(checkpoint),
            output_dir=str(tmp_path),
            int4=True,
        )
    assert sorted(os.listdir(tmp_path)) == ["export.json", "onnx", "onnx_int8"]
    report = json.loads((tmp_path / "export.json").read_text())
    assert (report["int8_refused"], report["int4_refused"]) == (False, True)
    assert set(report["models"]) == {"torch", "onnx", "onnx int8", "onnx int4"}


def test_quantizing_needs_an_export(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no model\.onnx; `itrd-nlp export-onnx` makes one"):
        quantize_int8(checkpoint, tmp_path / "int8")
    assert os.listdir(tmp_path) == []


def test_int8_that_loses_too_much_is_refused_and_nothing_is_lost(
    exported: Path, int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model()
    cripple_int8(model)
    folder = write_checkpoint(tmp_path / "model", model)
    shutil.copytree(int8, folder / "onnx_int8")
    shutil.copytree(exported, folder / "onnx")
    before = contents(folder)
    with pytest.raises(UserError) as caught:
        export_checkpoint(str(folder), LoadingArguments(), arguments(folder), max_f1_drop=5)
    report = json.loads((folder / "export.json").read_text())
    loss = 100 - report["models"]["onnx int8"]["f1"]
    assert report["models"]["torch"]["f1"] == report["models"]["onnx"]["f1"] == 100
    assert loss > 5
    assert report["int8_refused"] is True
    assert f"int8 loses {loss:.2f} F1 on 24 questions, more than max_f1_drop=5" in str(caught.value)
    assert "the one made before stays" in str(caught.value)
    assert "onnx int8" in capsys.readouterr().out
    after = contents(folder)
    assert after.pop("export.json")
    # The fp32 export is the new one, all else is as it was.
    for files in (after, before):
        for name in [name for name in files if name.startswith("onnx/")]:
            del files[name]
    assert after == before
    assert logit_difference(model.eval(), folder / "onnx") < 1e-4
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.usefixtures("no_exporter")
def test_without_int8_there_is_fp32_alone(checkpoint: Path, tmp_path: Path) -> None:
    report = export_checkpoint(
        str(checkpoint),
        LoadingArguments(),
        arguments(checkpoint),
        output_dir=str(tmp_path),
        int8=False,
    )
    assert sorted(os.listdir(tmp_path)) == ["export.json", "onnx"]
    assert set(report["models"]) == {"torch", "onnx"}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"max_f1_drop": -1.0}, "max_f1_drop is -1.0, but must be a finite number >= 0"),
        ({"max_f1_drop": float("nan")}, "max_f1_drop is nan, but must be a finite number >= 0"),
        ({"batch_size": 0}, "batch_size is 0, but must be at least 1"),
        ({"name": "some/model"}, "output_dir is not set, but the model some/model is no folder"),
        (
            {"output_dir": f"{__file__}/new"},
            r"output_dir .*/new cannot be written: .* does not let",
        ),
    ],
)
def test_bad_arguments_are_refused_before_the_work(
    wrong: dict[str, Any], sentence: str, checkpoint: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        export_checkpoint(
            **{
                "name": str(checkpoint),
                "loading": LoadingArguments(),
                "data_args": arguments(checkpoint),
                **wrong,
            }
        )


def test_chatter_is_silenced_and_errors_are_not(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.root.handlers[:]
    with export.quiet():
        logging.warning("chatter")
        logging.getLogger("torch.onnx").warning("chatter")
        logging.getLogger("torch.onnx").error("an error")
    logging.getLogger("torch.onnx").warning("later")
    assert caplog.messages == ["an error", "later"]
    assert logging.root.handlers == before


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23])
def test_every_opset_exports(opset: int, tmp_path: Path) -> None:
    export_onnx(make_model(), make_tokenizer(), tmp_path / "onnx", opset=opset)
    graph = onnx.load(tmp_path / "onnx" / "model.onnx")
    assert [o.version for o in graph.opset_import if not o.domain] == [opset]
    quantize_int8(tmp_path / "onnx", tmp_path / "int8")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["roberta", "distilbert"])
def test_models_without_token_types_export(architecture: str, tmp_path: Path) -> None:
    model: PreTrainedModel
    if architecture == "roberta":  # 66 positions of which it can use 64
        shape = SHAPE | {"max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1}
        model = RobertaForQuestionAnswering(RobertaConfig(**shape))
        tokenizer = make_tokenizer()
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    else:  # whose tokenizer may make token types all the same
        model = DistilBertForQuestionAnswering(
            DistilBertConfig(
                vocab_size=64,
                dim=64,
                hidden_dim=128,
                n_layers=2,
                n_heads=2,
                max_position_embeddings=64,
                initializer_range=0.2,
            )
        )
        tokenizer = make_tokenizer()
    model.eval()
    export_onnx(model, tokenizer, tmp_path / "onnx")
    exported = OnnxQuestionAnsweringModel.from_pretrained(tmp_path / "onnx")
    assert [i.name for i in exported.session.get_inputs()] == ["input_ids", "attention_mask"]
    batch = padded(model, [64, 3, 20])
    del batch["token_type_ids"]
    with torch.no_grad():
        expected = model(**batch)
    torch.testing.assert_close(exported(**batch).end_logits, expected.end_logits, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_script_exports_compares_and_leaves_a_record(checkpoint: Path, tmp_path: Path) -> None:
    def script(*more: str) -> subprocess.CompletedProcess[str]:
        flags = {"model": checkpoint, "validation_file": checkpoint / "dev.json"}
        options = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        return subprocess.run(
            [
                *(sys.executable, str(ROOT / "scripts" / "export_onnx.py"), *options),
                *("--max_length", "64", "--doc_stride", "16", "--output_dir", "out", *more),
            ],
            capture_output=True,
            text=True,
            timeout=170,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        )

    done = script("--max_f1_drop", "40", "--max_eval_samples", "20")
    assert done.returncode == 0, done.stderr
    for text in ("torch", "onnx int8", "EM", "F1", "questions/s", "20 questions", "opset 20"):
        assert text in done.stdout
    noise = [line for line in done.stderr.splitlines() if "warn" in line.lower() or "onnx" in line]
    assert noise == []
    out = tmp_path / "out"
    assert sorted(os.listdir(out)) == ["export.json", "onnx", "onnx_int8"]
    report = json.loads((out / "export.json").read_text())
    rows = report["models"]
    assert rows["torch"]["f1"] == rows["onnx"]["f1"] == rows["onnx"]["same_answers"] == 100
    assert rows["onnx int8"]["f1"] >= 60
    assert report["logit_difference"] < 1e-4
    assert all(row["milliseconds_per_question"] > 0 for row in rows.values())
    assert all(row["questions_per_second"] > 0 for row in rows.values())
    assert {"torch", "onnx", "onnxruntime", "itrd_nlp"} <= report["environment"].keys()
    assert report["command"].startswith("export_onnx.py --model")
    refused = script("--opset", "3")
    assert refused.returncode == 2
    assert (
        refused.stderr.strip().splitlines()[-1] == "error: opset is 3, but must be from 18 to 23."
    )
