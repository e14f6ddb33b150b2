"""`itrd-nlp quantise`: weights in int8 and int4 by torchao, for every task, held against transformers and torchao."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import nn
from transformers import (
    AutoModelForQuestionAnswering,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    PreTrainedModel,
)

from itrd_nlp import load_pipeline
from itrd_nlp.cli.main import subcommands
from itrd_nlp.errors import UserError
from itrd_nlp.models.embedder import write_sentence_files
from itrd_nlp.models.low_bits import prepare_qat, rounded_state
from itrd_nlp.models.torchao_weights import keep_trained_weights, torchao_config
from itrd_nlp.training.record import RunRecord

pytest.importorskip("torchao")

WORDS = [f"w{i}" for i in range(40)]
SHAPE = {
    "vocab_size": 45,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}


def words(start: int, count: int = 8) -> str:
    return " ".join(WORDS[(start * 7 + j * j) % 40] for j in range(count))


def squad() -> dict[str, Any]:
    paragraphs = []
    for i in range(10):
        context = words(i, 12)
        answer = {"text": context.split()[2], "answer_start": context.index(context.split()[2])}
        qas = [{"id": f"q{i}", "question": words(i, 2), "answers": [answer]}]
        paragraphs.append({"context": context, "qas": qas})
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}


ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": [{"text": words(i), "label": "ab"[i % 2]} for i in range(10)],
    "reranking": [
        {"query": words(i, 3), "passages": [words(i), words(i + 3)], "labels": [1, 0]}
        for i in range(10)
    ],
    "embedding": [
        {"query": words(i, 3), "passages": [words(i), words(i + 3)], "labels": [1, 0]}
        for i in range(10)
    ],
    "sentence-similarity": [
        {"text": words(i), "text_pair": words(i + i % 3), "score": 1 - i % 3 / 2} for i in range(10)
    ],
    "masked-lm": [{"text": words(i, 12)} for i in range(10)],
    "encoder": [{"text": words(i, 12)} for i in range(10)],
}
ALL = ["question-answering", *ROWS]


def make_model(task: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if task == "question-answering":
        return BertForQuestionAnswering(BertConfig(**SHAPE))
    if task == "classification":
        return BertForSequenceClassification(BertConfig(**SHAPE, id2label={0: "a", 1: "b"}))
    if task == "masked-lm":
        return BertForMaskedLM(BertConfig(**SHAPE))
    if task == "reranking":
        return BertForSequenceClassification(BertConfig(**SHAPE, num_labels=1))
    return BertModel(BertConfig(**SHAPE))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of random weights for each task, and a file of data."""
    folder = tmp_path_factory.mktemp("quantise")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    for task in ALL:
        make_model(task).save_pretrained(folder / task)
        BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}).save_pretrained(
            folder / task
        )
        content = json.dumps(squad()) if task not in ROWS else ""
        content = content or "\n".join(map(json.dumps, ROWS[task]))
        (folder / f"{task}.json{'l' if task in ROWS else ''}").write_text(content)
    for task in ("embedding", "sentence-similarity"):
        write_sentence_files(folder / task, 64, "mean")
    return folder


def run(name: str, *arguments: str) -> str:
    """A command of `itrd-nlp` in this process. Returns stdout."""
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[name].stem}")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setenv("COLUMNS", "160")
        patch.setattr(sys, "argv", [f"itrd-nlp {name}", *arguments])
        module.main()
    return out.buffer.getvalue().decode()


def options(task: str) -> list[str]:
    file = f"{task}.json{'l' if task in ROWS else ''}"
    own = {"question-answering": ["--doc_stride", "16"], "encoder": ["--reference", "encoder"]}
    more = own.get(task, [])
    return ["--task", task, "--validation_file", file, "--max_length", "48", *more]


def quantise(task: str, weights: str, output_dir: str, *more: str) -> str:
    return run(
        *("quantise", "--model", task, "--weights", weights, "--output_dir", output_dir),
        *(*options(task), *(more or ("--max_f1_drop", "100"))),
    )


@pytest.fixture(scope="module")
def made(workplace: Path) -> Callable[[str, str], Path]:
    """The folder of a task's model in int8 or int4, made once."""
    (workplace / "made").mkdir(exist_ok=True)

    def made(task: str, weights: str) -> Path:
        folder = workplace / "made" / f"{task}-{weights}"
        if not folder.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(workplace)
                quantise(task, weights, str(folder))
        return folder

    return made


@pytest.fixture(autouse=True)
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)


def rounded(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of torchao in a model."""
    return {n: p for n, p in model.named_parameters() if type(p) is not nn.Parameter}


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("task", ALL)
def test_every_task_has_the_scores_of_its_record_when_it_is_evaluated(
    task: str, weights: str, made: Callable[[str, str], Path]
) -> None:
    folder = made(task, weights)
    record = RunRecord.read(folder)
    assert record is not None and record.quantised is not None
    found = json.loads(run("evaluate", "--model", str(folder), *options(task)).splitlines()[-1])
    assert {name: found[name] for name in record.scores} == pytest.approx(record.scores, abs=0.01)
    assert found["signature"] == record.signature
    before = json.loads(run("evaluate", "--model", task, *options(task)).splitlines()[-1])
    for name, value in record.quantised.before.scores.items():
        assert value == pytest.approx(before[name], abs=0.01)


def test_transformers_alone_loads_the_folder_and_torchao_has_its_weights(
    made: Callable[[str, str], Path],
) -> None:
    plain = AutoModelForQuestionAnswering.from_pretrained("question-answering")
    for weights, kind, levels in (("int8", "Int8Tensor", 128), ("int4", "IntxUnpacked", 8)):
        model = AutoModelForQuestionAnswering.from_pretrained(made("question-answering", weights))
        found = rounded(model)
        assert len(found) == 2 * 6  # all of the layers; not the embeddings, nor the head
        for name, weight in found.items():
            assert type(weight).__name__.startswith(kind)
            assert weight.qdata.int().abs().max() <= levels
            error = (weight.dequantize() - plain.get_parameter(name)).abs().max()
            assert 0 < error <= weight.scale.max()


def test_the_folder_is_small_and_says_so(made: Callable[[str, str], Path]) -> None:
    folder = made("question-answering", "int8")
    record = RunRecord.read(folder)
    assert record is not None and record.quantised is not None
    size = (folder / "model.safetensors").stat().st_size
    assert size < 0.5 * Path("question-answering/model.safetensors").stat().st_size
    assert record.megabytes == pytest.approx(size / 1e6, abs=0.06)
    assert record.megabytes_fp32 == record.quantised.before.megabytes
    assert record.ms_per_question and record.quantised.before.ms_per_question
    assert record.environment["torchao"] in record.quantised.library


def test_pipelines_and_predictions_read_it(made: Callable[[str, str], Path]) -> None:
    folder = str(made("question-answering", "int8"))
    asked = {"question": words(1, 2), "context": words(1, 12)}
    answer = load_pipeline(folder)(**asked)
    options = [text for name, value in asked.items() for text in (f"--{name}", value)]
    assert json.loads(run("predict", "--model", folder, *options))["answer"] == answer["answer"]
    text = ("--text", words(2))
    label = json.loads(run("predict", "--model", str(made("classification", "int4")), *text))
    assert label["label"] in "ab"


def test_sentence_transformers_reads_embedders_and_rerankers(
    made: Callable[[str, str], Path],
) -> None:
    folder = str(made("embedding", "int8"))
    Path("texts.jsonl").write_text(json.dumps({"text": words(3)}))
    ours = json.loads(
        run("predict", "--model", folder, "--task", "embedding", "--input", "texts.jsonl")
    )
    theirs = SentenceTransformer(folder, device="cpu").encode([words(3)])[0]
    assert ours["embedding"] == pytest.approx(theirs.tolist(), abs=1e-5)
    ranker = CrossEncoder(str(made("reranking", "int8")), device="cpu")
    assert ranker.predict([(words(1, 3), words(1))]).shape == (1,)


def test_the_card_that_is_pushed_says_bits_size_and_quality(
    made: Callable[[str, str], Path],
) -> None:
    folder = made("question-answering", "int4")
    record = RunRecord.read(folder)
    assert record is not None and record.quantised is not None
    shown = run("push-to-hub", "--model", str(folder), "--repo_id", "user/small", "--dry_run")
    for text in (
        "have int4 weights by torchao",
        "where torchao is installed",
        f"Of the answers {record.quantised.same_answers:.1f} % are those of the model before",
        "| before, in fp32 |",
        f"| {record.scores['f1']:.2f} |",
        "itrd-nlp quantise --model question-answering --weights int4",
        "model.safetensors",
    ):
        assert text in shown, text
    assert "ordinary checkpoint" not in shown and "MB (fp32)" not in shown
    assert "fine-tuned" not in shown  # no record says that it was


def test_the_record_of_a_distillation_goes_along(tmp_path: Path) -> None:
    """Its teacher and its objective stay; milliseconds of another day do not."""
    run_record = RunRecord(
        version=3,
        task="question-answering",
        metrics={"exact_match": "EM", "f1": "F1"},
        scores={"exact_match": 1.0, "f1": 2.0},
        teacher={"name": "big", "layers": 4, "ms_per_question": 9.0, "scores": {"f1": 3.0}},
        objective={"beta_corr": 2.0},
        arguments={
            "max_eval_samples": 5,
            "max_answer_length": 10,
            "max_length": 40,
            "learning_rate": 0.1,
        },
        train_seconds=7.0,
        command="itrd-nlp distil",
    )
    run_record.write("question-answering")
    try:
        quantise("question-answering", "int8", str(tmp_path / "small"))
    finally:
        Path("question-answering/results.json").unlink()
    record = RunRecord.read(tmp_path / "small")
    assert record is not None and record.teacher is not None
    assert (record.teacher.name, record.teacher.ms_per_question) == ("big", None)
    assert record.objective == {"beta_corr": 2.0}
    assert record.arguments == {
        "learning_rate": 0.1,
        "validation_file": "question-answering.json",
        "max_length": 40,  # of the training, though it is judged with another
    }
    assert record.scores["f1"] != 2.0
    card = (tmp_path / "small" / "README.md").read_text()
    for text in (
        "# small",
        "distilled from its teacher big",
        "itrd-nlp distil",
        "itrd-nlp quantis",
    ):
        assert text in card


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
@pytest.mark.parametrize(("weights", "most"), [("int8", 8), ("int4", 4)])
def test_weights_that_were_trained_in_few_bits_are_the_same_in_torchao(
    bits: int, weights: str, most: int, tmp_path: Path
) -> None:
    model = make_model("question-answering")
    prepare_qat(model, bits)
    state = rounded_state(model)
    plain = make_model("question-answering")
    plain.load_state_dict(state)
    plain.save_pretrained(tmp_path / "trained")
    small = AutoModelForQuestionAnswering.from_pretrained(
        tmp_path / "trained", quantization_config=torchao_config(plain, weights)
    )
    kept = keep_trained_weights(small, plain, weights)
    small.save_pretrained(tmp_path / "small")
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "small")
    same = [
        torch.equal(weight.dequantize(), state[name]) for name, weight in rounded(loaded).items()
    ]
    assert len(same) == 12
    assert kept == (12 if bits <= most else 0)
    assert all(same) if bits <= most else not any(same)


def test_torchao_alone_would_give_other_values() -> None:
    """Its scale for 4 bits is a row's largest weight over 7.5, so the training's 7 steps do not fit."""
    model = make_model("question-answering")
    prepare_qat(model, 4)
    name = "bert.encoder.layer.0.output.dense.weight"
    state = rounded_state(model)[name]
    from torchao.quantization import IntxUnpackedToInt8Tensor

    int4: Any = torch.int4  # type: ignore[attr-defined]
    theirs = IntxUnpackedToInt8Tensor.from_hp(state, (1, state.shape[1]), int4).dequantize()
    assert (theirs - state).abs().max() > 0.05 * state.abs().max()


def test_a_loss_beyond_the_limit_is_refused_and_the_one_before_stays(
    made: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quantise("classification", "int8", str(tmp_path / "small"))
    before = (tmp_path / "small" / "model.safetensors").read_bytes()
    from itrd_nlp.tasks.jobs import quantise as job

    real = job.judge_forms

    def worse(*args: Any, **kwargs: Any) -> Any:
        rows = real(*args, **kwargs)
        rows["int4"]["accuracy"] = rows["fp32"]["accuracy"] - 2.5
        return rows

    monkeypatch.setattr(job, "judge_forms", worse)
    with pytest.raises(UserError, match=r"int4 loses 2\.50 accuracy on 10 rows, more than max_f1_"):
        quantise("classification", "int4", str(tmp_path / "small"), "--max_f1_drop", "2")
    assert (tmp_path / "small" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_what_cannot_work_is_refused_before_anything_is_written(
    made: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made("question-answering", "int8")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for arguments, sentence in (
        (("--weights", "int2"), r"invalid choice: 'int2' \(choose from 'int8', 'int4'\)"),
        (("--max_f1_drop", "-1"), r"max_f1_drop is -1\.0, but must be a finite number >= 0"),
        (("--output_dir", "question-answering"), r"is the folder of question-answering, which is"),
        (("--output_dir", "classification"), r"holds config\.json, but no run of this package has"),
        (("--output_dir", "."), r"output_dir \. is or holds the current folder, so it cannot be"),
        (
            ("--output_dir", ".."),
            r"output_dir \.\. is or holds the current folder, so it cannot be",
        ),
        (("--model", str(folder)), r"the model is quantised already; quantise the one in fp32"),
    ):
        usual = {"--model": "question-answering", "--weights": "int8", "--output_dir": "new"}
        given = {**usual, arguments[0]: arguments[1]}
        flat = [text for pair in given.items() for text in pair]
        with pytest.raises(UserError, match=sentence):
            run("quantise", *flat, *options("question-answering"))
    assert not Path("new").exists()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "README.md").write_text("edited")
    try:
        with pytest.raises(UserError, match=r"but no run of this package has written it"):
            quantise("question-answering", "int8", str(folder))
    finally:
        (folder / "README.md").write_bytes(before[folder / "README.md"])


def test_without_torchao_one_sentence_says_what_to_install(
    made: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(made("question-answering", "int8"))
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(UserError, match=r"torchao is not installed.*itrd_nlp\[quantise\]"):
        quantise("question-answering", "int8", "new")
    with pytest.raises(UserError, match=r"cannot be loaded: torchao has quantised.*\[quantise\]"):
        run("evaluate", "--model", folder, *options("question-answering"))
    assert not Path("new").exists()


def test_a_quantised_model_is_not_exported_to_onnx(
    made: Callable[[str, str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    arguments = ("--model", str(made("question-answering", "int8")), "--output_dir", str(tmp_path))
    with pytest.raises(UserError, match="is quantised already; export the model that it was made"):
        run("export-onnx", *arguments, *options("question-answering"))
    assert list(tmp_path.iterdir()) == []
