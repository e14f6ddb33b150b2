"""`--speedup`, `--max_ms` and `--max_mb`: the deepest student that fits is distilled, for every task."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertTokenizerFast,
)

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.errors import UserError
from itrd_nlp.models.onnx_export import export_onnx, quantize_int4, quantize_int8
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.models.students import build_student
from itrd_nlp.publish.report.budget import shown_budget
from itrd_nlp.tasks.classification.arguments import TextArguments
from itrd_nlp.tasks.classification.task import Classification
from itrd_nlp.tasks.jobs import budget as jobs
from itrd_nlp.tasks.jobs.arguments import StudentArguments
from itrd_nlp.tasks.jobs.budget import choose, measured
from itrd_nlp.tasks.jobs.distil import distil
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.training.record import CandidateRecord, RunRecord
from itrd_nlp.training.results import size

WORDS = [f"w{i}" for i in range(40)]
LAYERS = 4


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_reader: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    for part in make_reader(WORDS, LAYERS, max_position_embeddings=64):
        part.save_pretrained("teacher")
    draw = random.Random(0)
    paragraphs = []
    for i in range(12):
        words = draw.choices(WORDS, k=20)
        answer = {"text": words[0], "answer_start": 0}
        qas = [{"id": f"q{i}", "question": words[3], "answers": [answer]}]
        paragraphs.append({"context": " ".join(words), "qas": qas})
    content = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
    Path("squad.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def milliseconds(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A machine on which a layer takes 10 ms in torch, 5 in ONNX and 2 in int8. Returns what was timed."""
    timed: list[list[str]] = []

    def fake(models: Any, features: Any, collator: Any, **options: Any) -> dict[str, float]:
        timed.append(list(models))
        layers = models["torch"].config.num_hidden_layers
        a_layer = {"torch": 10.0, "onnx": 5.0, "int8": 2.0}
        return {
            name: 10.0 * LAYERS if name == "teacher" else a_layer[name] * layers for name in models
        }

    monkeypatch.setattr(jobs, "milliseconds_per_question", fake)
    return timed


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*packages: str) -> None:
        raise UserError("the package onnx is not installed; pip install itrd_nlp[export].")

    monkeypatch.setattr(jobs, "require_packages", missing)


def squad() -> QuestionAnswering:
    files = {"train_file": "squad.json", "validation_file": "squad.json"}
    return QuestionAnswering(DataArguments(**files, max_length=64, doc_stride=16))


def run(output_dir: str = "student", **options: Any) -> RunRecord:
    usual = {"max_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    args = ITRDTrainingArguments(output_dir=output_dir, **usual)
    models = StudentArguments(teacher="teacher", **options)
    return distil(squad(), models, LoadingArguments(), args)


# ---- the choice ----


def candidates() -> Iterator[CandidateRecord]:
    for layers in (1, 2, 3, 6):
        ms = {"torch": 10.0 * layers, "int8": 4.0 * layers}
        megabytes = {"torch": 50.0 + 7 * layers, "int8": 15.0 + 2 * layers}
        yield CandidateRecord(layers=layers, teacher_ms=120.0, ms=ms, megabytes=megabytes)


@pytest.mark.parametrize(
    ("budget", "layers"),
    [
        ({"speedup": 2}, 6),  # 120 / 60 is exactly that
        ({"speedup": 3}, 3),
        ({"speedup": 4}, 3),
        ({"speedup": 4.1}, 2),
        ({"max_ms": 25}, 2),
        ({"max_mb": 64}, 2),
        ({"max_ms": 35, "max_mb": 58}, 1),  # all limits hold
        ({"speedup": 10, "budget_runtime": "int8"}, 3),
        ({"max_mb": 21, "budget_runtime": "int8"}, 3),
    ],
)
def test_the_deepest_student_that_fits_is_chosen(budget: dict[str, Any], layers: int) -> None:
    assert choose(list(candidates()), StudentArguments(teacher="t", **budget)) == layers


@pytest.mark.parametrize(
    ("budget", "nearest"),
    [
        ({"speedup": 13}, "speedup 13 in torch: the nearest has 1 layer, which take 10 ms"),
        ({"max_ms": 3, "budget_runtime": "int8"}, "max_ms 3 in int8: the nearest has 1 layer"),
        ({"max_ms": 15, "max_mb": 50}, "max_ms 15 and max_mb 50 in torch: the nearest has 1 la"),
    ],
)
def test_where_none_fits_the_nearest_is_named(budget: dict[str, Any], nearest: str) -> None:
    with pytest.raises(UserError, match=f"^no student of this teacher fits {nearest}"):
        choose(list(candidates()), StudentArguments(teacher="t", **budget))


@pytest.mark.parametrize("refused", [1, 2], ids=["the first", "the last"])
def test_a_depth_that_cannot_be_exported_has_empty_cells(
    refused: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    measured = [
        CandidateRecord(
            layers=layers,
            teacher_ms=120,
            ms={"torch": 10.5 * layers} | ({} if layers == refused else {"onnx": 5.0}),
            megabytes={"torch": 57} | ({} if layers == refused else {"onnx": 57.5}),
        )
        for layers in (1, 2)
    ]
    model_args = StudentArguments(teacher="teacher", speedup=3)
    jobs._print_table(measured, model_args, squad())
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    empty = [[cell.strip() for cell in row] for row in rows][refused - 1][5:8]
    assert empty == [""] * 3
    record = RunRecord(candidates=measured, arguments={"speedup": 3})
    shown = shown_budget(record, "question", "f1")
    assert shown is not None
    assert len(shown.table.head) == 7
    texts = [[cell.text for cell in row] for row in shown.table.rows]
    assert [row[4] for row in texts].count("5.0") == 1
    assert texts[refused - 1][4:] == ["n/a"] * 3


# ---- the measurement ----


@pytest.mark.slow
def test_each_depth_is_measured_in_torch_onnx_and_int8(workplace: Path) -> None:
    models = StudentArguments(teacher="teacher", max_ms=1, candidate_layers=[3, 1])
    found = measured(squad(), models, LoadingArguments())
    assert [c.layers for c in found] == [1, 3]
    for candidate in found:
        assert set(candidate.ms) == set(candidate.megabytes) == {"torch", "onnx", "int8"}
        assert min(candidate.ms.values()) > 0 and candidate.teacher_ms > 0
    from transformers import AutoModelForQuestionAnswering

    teacher = AutoModelForQuestionAnswering.from_pretrained("teacher")
    tokenizer = BertTokenizerFast.from_pretrained("teacher")
    student = build_student(teacher, 3)
    assert found[1].megabytes["torch"] == size(student)["megabytes_fp32"]
    export_onnx(student, tokenizer, workplace / "onnx")
    quantize_int8(workplace / "onnx", workplace / "int8")
    for runtime, name in (("onnx", "onnx/model.onnx"), ("int8", "int8/model_int8.onnx")):
        expected = (workplace / name).stat().st_size / 1e6
        assert found[1].megabytes[runtime] == pytest.approx(expected, abs=0.06)


@pytest.mark.slow
def test_int4_is_measured_where_the_budget_is_about_it(workplace: Path) -> None:
    models = StudentArguments(
        teacher="teacher", max_mb=1, budget_runtime="int4", candidate_layers=[2]
    )
    (found,) = measured(squad(), models, LoadingArguments())
    assert set(found.ms) == set(found.megabytes) == {"torch", "onnx", "int8", "int4"}
    teacher, tokenizer = (
        BertForQuestionAnswering.from_pretrained("teacher"),
        BertTokenizerFast.from_pretrained("teacher"),
    )
    export_onnx(build_student(teacher, 2), tokenizer, workplace / "onnx")
    quantize_int4(workplace / "onnx", workplace / "int4")
    expected = (workplace / "int4" / "model_int4.onnx").stat().st_size / 1e6
    assert found.megabytes["int4"] == pytest.approx(expected, abs=0.06)
    assert choose([found], models) == 2


def test_a_classifier_is_measured_alike(
    workplace: Path, milliseconds: list[list[str]], no_export: None, make_config: Any
) -> None:
    config = make_config(
        LAYERS, vocab_size=45, id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1}
    )
    BertForSequenceClassification(config).save_pretrained("classifier")
    BertTokenizerFast.from_pretrained("teacher").save_pretrained("classifier")
    rows = [json.dumps({"text": f"w{i} w{i + 1}", "label": "ab"[i % 2]}) for i in range(8)]
    Path("texts.jsonl").write_text("\n".join(rows))
    task = Classification(TextArguments("texts.jsonl", "texts.jsonl", max_length=32))
    models = StudentArguments(teacher="classifier", speedup=2)
    found = measured(task, models, LoadingArguments())
    assert [c.layers for c in found] == [1, 2, 3]
    assert choose(found, models) == 2
    assert milliseconds == [["teacher", "torch"]] * 3  # without the extra torch alone


# ---- the run ----


def test_the_student_that_fits_is_distilled_and_the_record_and_report_show_the_others(
    workplace: Path, milliseconds: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(speedup=8, budget_runtime="onnx", candidate_layers=[1, 2])
    out = capsys.readouterr().out
    assert "num_layers 1: the deepest student that fits speedup 8 in onnx." in out
    assert record.layers == json.loads(Path("student/config.json").read_text())["num_hidden_layers"]
    assert record.layers == 1
    kept = RunRecord.read("student")
    assert kept is not None
    assert [(c.layers, c.ms["onnx"], c.teacher_ms) for c in kept.candidates] == [
        (1, 5.0, 40.0),
        (2, 10.0, 40.0),
    ]
    assert kept.arguments["speedup"] == 8
    page = Path("student/report.html").read_text()
    assert "The budget: speedup 8, budget_runtime onnx. Layers of the student: 1." in page
    for shown in ("Candidates", "Time by depth", "Quality against time", "onnx: times as fast"):
        assert shown in page
    before = len(milliseconds)
    assert run(speedup=8, budget_runtime="onnx", candidate_layers=[1, 2]).layers == 1  # finished
    assert len(milliseconds) == before


def test_a_run_that_was_stopped_keeps_its_depth_and_another_limit_is_not_measured_again(
    workplace: Path, milliseconds: list[list[str]], no_export: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no student of this teacher fits speedup 9 in torch"):
        run(speedup=9)
    assert len(milliseconds) == 3
    assert [path.name for path in Path("student").iterdir()] == ["budget.json"]
    assert run(speedup=2).layers == 2
    assert len(milliseconds) == 3
    other = run("other", speedup=2, candidate_layers=[1])
    assert (other.layers, len(milliseconds)) == (1, 4)


def test_without_a_budget_nothing_is_measured_and_nothing_is_recorded(
    workplace: Path, milliseconds: list[list[str]]
) -> None:
    record = run(num_layers=2)
    assert (record.layers, record.candidates, milliseconds) == (2, [], [])
    assert "candidates" not in json.loads(Path("student/results.json").read_text())
    assert not Path("student/budget.json").exists()
    assert "The budget" not in Path("student/report.html").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"speedup": 0}, "speedup is 0, but must be a finite number > 0"),
        ({"max_mb": float("nan")}, "max_mb is nan, but must be a finite number > 0"),
        ({"max_ms": 5, "candidate_layers": [0]}, "candidate_layers has 0, but must be at least 1"),
        ({"max_ms": 5, "candidate_layers": [5]}, r"are \[5\], but .* are from 1 to 4\."),
        ({"max_ms": 5, "budget_runtime": "gpu"}, "budget_runtime is 'gpu', but must be one of"),
        ({"max_ms": 5, "student": "teacher"}, "student is teacher, but max_ms 5 in torch chooses"),
        ({"max_ms": 5, "student_init": ["1", "2"]}, r"student_init is \['1', '2'\], but max_ms 5"),
        ({"max_ms": 5, "student_init": ["first", "7"]}, "give one of uniform, first, last, random"),
        ({"max_ms": 5, "student_init": []}, r"student_init is \[\], but max_ms 5 in torch chooses"),
        ({"budget_runtime": "int8"}, "budget_runtime is set, but there is no budget; set speedup"),
        ({"candidate_layers": [2]}, "candidate_layers is set, but there is no budget"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(
    options: dict[str, Any], sentence: str, workplace: Path, milliseconds: list[list[str]]
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(**options)
    assert milliseconds == []
    assert not Path("student").exists()


def test_onnx_without_its_packages_is_refused(
    workplace: Path, milliseconds: list[list[str]], no_export: None
) -> None:
    with pytest.raises(UserError, match="the package onnx is not installed"):
        run(speedup=2, budget_runtime="int8")


def test_several_processes_do_not_measure(
    workplace: Path, milliseconds: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ITRDTrainingArguments, "world_size", property(lambda self: 2))
    with pytest.raises(UserError, match="are measured by one process; run the command once"):
        run(speedup=2)
