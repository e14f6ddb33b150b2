"""A new task is one module and one line of `TASKS`: all jobs work on it, and no other file knows it.

The task is in `third_task.py` beside this file. Its head is one that no other task has, its only metric has a name
that the package does not know, its answers are no texts and its examples are called sentences.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForMaskedLM, AutoTokenizer

import itrd_nlp.tasks

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from commands import command, read

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "itrd_nlp"
NAME = "masked-word"
LINE = ("third_task", "MaskedWord")
TASK = ("--task", NAME)
WORDS = ["rhine", "flows", "past", "bonn", "and", "basel"]
# What a shell that runs the package with the task in it would have in PYTHONPATH.
WITH_THE_LINE = f"import itrd_nlp.tasks\nitrd_nlp.tasks.TASKS[{NAME!r}] = {LINE!r}\n"


def row(i: int) -> dict[str, str]:
    """The word behind the mask is the one that comes next in `WORDS`."""
    words = [WORDS[(i + j) % 6] for j in range(3 + i % 4)]
    at = 1 + i % (len(words) - 1)
    return {"text": " ".join([*words[:at], "[MASK]", *words[at + 1 :]]), "word": words[at]}


def with_the_task(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put the module and its line beside the package, for this process and for those that it starts."""
    patch.chdir(folder)
    patch.syspath_prepend(str(folder / "mine"))
    patch.setitem(itrd_nlp.tasks.TASKS, NAME, LINE)
    patch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "mine"), str(ROOT)]))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, make_reader: Any) -> Path:
    """A folder with data, and a teacher and a student made by the commands."""
    folder = tmp_path_factory.mktemp("third_task")
    (folder / "mine").mkdir()
    shutil.copy(Path(__file__).with_name("third_task.py"), folder / "mine")
    (folder / "mine" / "sitecustomize.py").write_text(WITH_THE_LINE)
    with pytest.MonkeyPatch.context() as patch:
        with_the_task(patch, folder)
        for part in make_reader(WORDS, 4, initializer_range=0.05, max_position_embeddings=64):
            part.save_pretrained("encoder")
        for split, begin, count in (("train", 0, 96), ("dev", 96, 24)):
            lines = [json.dumps(row(i)) for i in range(begin, begin + count)]
            Path(f"{split}.jsonl").write_text("\n".join(lines))
        common = {
            "train_file": "train.jsonl",
            "validation_file": "dev.jsonl",
            "per_device_train_batch_size": 8,
            "learning_rate": 2e-3,
            "save_strategy": "no",
            "logging_steps": 4,
            "report_to": "none",
            "disable_tqdm": True,
        }
        teacher = {"model_name_or_path": "encoder", "output_dir": "teacher", "num_train_epochs": 25}
        student = {"teacher": "teacher", "num_layers": 2, "output_dir": "student"}
        Path("teacher.yaml").write_text(json.dumps(common | teacher))
        Path("student.yaml").write_text(json.dumps(common | student | {"num_train_epochs": 1}))
        command("fine-tune", "teacher.yaml", *TASK)
        command("distil", "student.yaml", *TASK, "--student_init", "random")
    return folder


@pytest.fixture(autouse=True)
def third_task(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if "workplace" in request.fixturenames:
        with_the_task(monkeypatch, request.getfixturevalue("workplace"))
    yield
    sys.modules.pop(LINE[0], None)


def mean_rank(folder: str) -> float:
    """The metric of a model, by transformers alone, one sentence after the other."""
    model, tokenizer = (
        AutoModelForMaskedLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    places = []
    for one in map(row, range(96, 120)):
        inputs = tokenizer(one["text"], return_tensors="pt")
        with torch.no_grad():
            logits = model.eval()(**inputs).logits[0]
        at = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
        order = logits[at].argsort(descending=True).tolist()
        rank = order.index(tokenizer.convert_tokens_to_ids(one["word"]))
        places.append(1 - rank / (len(order) - 1))
    return 100 * sum(places) / len(places)


def test_a_teacher_is_fine_tuned_and_teaches_a_student(workplace):
    teacher, student = read("teacher/results.json"), read("student/results.json")
    assert teacher["mean_rank"] > 95  # the words stand in one order, so there is something to know
    for folder, record in (("teacher", teacher), ("student", student)):
        assert record["mean_rank"] == pytest.approx(mean_rank(folder), abs=1e-6)
        assert record["metrics"] == {"mean_rank": "mean rank"}
        assert (record["task"], record["rows"]) == (NAME, 24)
    assert student["teacher"]["mean_rank"] == teacher["mean_rank"]
    assert student["layer_pairs"] == ["1:2", "2:4"]
    assert AutoModelForMaskedLM.from_pretrained("student").config.num_hidden_layers == 2
    shown = command("distil", "student.yaml", *TASK, "--student_init", "random")
    assert "Finished already: student" in shown and "mean rank" in shown


def test_the_task_is_found_by_the_head_and_its_answers_score_the_same(workplace, tmp_path):
    data = ("--validation_file", "dev.jsonl")
    answers = str(tmp_path / "answers.json")
    out = command("evaluate", "--model", "student", *data, "--output_file", answers)
    found = json.loads(out.splitlines()[-1])
    assert (found["mean_rank"], found["rows"]) == (read("student/results.json")["mean_rank"], 24)
    again = command("evaluate", *TASK, "--predictions_file", answers, *data)
    assert json.loads(again)["mean_rank"] == pytest.approx(found["mean_rank"], abs=1e-9)


def test_words_are_predicted_from_a_file_a_pipe_and_the_command_line(workplace):
    expected = [answer["word"] for answer in read("teacher/analysis/predictions.json").values()]
    model = ("--model", "teacher")
    lines = command("predict", *model, "--input", "dev.jsonl").splitlines()
    assert [json.loads(line)["word"] for line in lines] == expected
    piped = command("predict", *model, "--input", "-", stdin=Path("dev.jsonl").read_bytes())
    assert piped.splitlines() == lines
    assert command("predict", *model, "--text", row(96)["text"]).splitlines() == lines[:1]


def test_report_and_card_speak_of_the_task_alone(workplace):
    assert command("report", "student").strip() == "student/report.html"
    page = Path("student/report.html").read_text()
    for name in ("svg", "style", "script"):
        page = re.sub(rf"<{name}.*?</{name}>", " ", page, flags=re.DOTALL)
    report = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    card = command("push-to-hub", "--model", "student", "--repo_id", "user/words", "--dry_run")
    record = read("student/results.json")
    for text, wanted in (
        (
            report,
            (
                "Judged on 24 sentences.",
                "Sentences by group",
                "by length of the sentence",
                "ms/sentence",
            ),
        ),
        (card, ("pipeline_tag: fill-mask", "24 sentences", "ms per sentence", "BertForMaskedLM")),
    ):
        for words in wanted:
            assert words in text
        assert "Mean rank" in text
        own = re.split("## Command|The run Command", text)[0].lower()
        for strange in ("question", "exact match", "squad", "f1", "rows", "accuracy"):
            assert not re.search(rf"\b{strange}", own), strange
    assert f"{record['mean_rank']:.2f}" in card and f"{record['mean_rank']:.1f} %" in report
    differ = re.search(r"They answer (\d+) of 24 sentences differently", report)
    words = [
        [answer["word"] for answer in read(f"{model}/analysis/predictions.json").values()]
        for model in ("teacher", "student")
    ]
    assert int(differ[1]) == sum(a != b for a, b in zip(*words, strict=True)) > 0
    assert "Nothing was pushed." in card


def test_onnx_and_int8_are_judged_by_the_metric_of_the_task(workplace, tmp_path):
    arguments = ("--model", "teacher", "--validation_file", "dev.jsonl", "--max_f1_drop", "100")
    out = command("export-onnx", *arguments, "--output_dir", str(tmp_path))
    assert "24 sentences" in out and "mean rank" in out and "sentences/s" in out
    report = read(f"{tmp_path}/export.json")
    for name in ("torch", "onnx"):
        measured = report["models"][name]["mean_rank"]
        assert measured == pytest.approx(read("teacher/results.json")["mean_rank"], abs=1e-6)
    assert "mean_rank" in report["models"]["onnx int8"]
    exported = command("predict", "--model", f"{tmp_path}/onnx", "--input", "dev.jsonl")
    assert exported == command("predict", "--model", "teacher", "--input", "dev.jsonl")


def test_two_methods_are_compared_by_the_metric_of_the_task(workplace, tmp_path):
    plan = {
        "base": str(workplace / "student.yaml"),
        "task": NAME,
        "output_dir": str(tmp_path / "out"),
        "seeds": [0],
        "methods": {"kd": {"beta_corr": 0, "beta_mi": 0}, "itrd": {}},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    out = command("compare", str(tmp_path / "plan.yaml"))
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in out
    header = [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
    assert header[6:8] == ["mean rank", "mean rank - kd [95% interval]"]
    assert "mean rank in percent on 24 sentences" in table
    assert re.search(r"\b(question|row)s?\b", table) is None
    means = {
        method: mean_rank(str(tmp_path / "out" / "cells" / "student" / method / "seed0"))
        for method in ("kd", "itrd")
    }
    for method, mean in means.items():
        assert f"| {mean:.2f} |" in next(x for x in table.splitlines() if f"| {method} |" in x)
    scores = np.load(tmp_path / "out" / "scores.npz")["student/itrd/seed0/mean_rank"]
    assert 100 * scores.astype(float).mean() == pytest.approx(means["itrd"], abs=0.05)
    (tmp_path / "out" / "table.md").unlink()
    again = command("compare", str(tmp_path / "plan.yaml"), "--tables_only", "true")
    assert table in again


# ---- the rooms below the tasks know none ----

TERMS = ("squad", "exact_match", "start_logits", "end_logits", "accuracy")
BELOW = ("losses", "models", "training", "distillation", "publish", "compare")
# File to the terms that it may use, and why.
ALLOWED = {
    # The loss of two logits a token, which is named by what the head of transformers returns.
    "losses/outputs.py": {"start_logits", "end_logits"},
    "models/adaptor.py": {"start_logits", "end_logits"},
    "distillation/model.py": {"start_logits", "end_logits"},
    "distillation/logit_kd.py": {"start_logits", "end_logits"},
    # results.json of version 1 did not name its scores.
    "training/record.py": {"exact_match", "accuracy"},
    # The name of a field in analysis/disagreements.json, which earlier runs have left.
    "publish/report/data.py": {"exact_match"},
    # The other library's recipe is one for span heads.
    "distillation/textbrewer_trainer.py": {"start_logits", "end_logits"},
}


def test_no_room_below_the_tasks_uses_the_words_of_one():
    found: dict[str, set[str]] = {}
    for path in (path for name in BELOW for path in (PACKAGE / name).rglob("*")):
        if path.suffix in (".py", ".jinja", ".js"):
            text = path.read_text().lower()
            terms = {term for term in TERMS if term in text}
            if terms:
                found[str(path.relative_to(PACKAGE))] = terms
    assert found == ALLOWED
