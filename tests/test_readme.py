"""Everything that the README shows must run."""

import importlib
import json
import re
import statistics
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import BertForSequenceClassification, BertTokenizerFast

from itrd_nlp.tasks.jobs.runs import show
from itrd_nlp.tasks.question_answering.arguments import DataArguments
from itrd_nlp.tasks.question_answering.task import QuestionAnswering
from itrd_nlp.training.record import RunRecord

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture
def my_teacher(tmp_path, monkeypatch, make_config):
    monkeypatch.chdir(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film"]
    BertTokenizerFast(vocab={w: i for i, w in enumerate(words)}).save_pretrained("my-teacher")
    config = make_config(6, vocab_size=len(words), max_position_embeddings=512)
    BertForSequenceClassification(config).save_pretrained("my-teacher")
    return tmp_path


def test_the_python_example_runs_and_leaves_a_student_of_three_layers(my_teacher):
    exec(example("python api"), {})
    student = BertForSequenceClassification.from_pretrained(my_teacher / "my-student")
    assert student.config.num_hidden_layers == 3


def test_the_python_example_is_short():
    lines = [line for line in example("python api").splitlines() if line.strip()]
    assert len(lines) <= 15


def test_the_loss_example_runs():
    scope: dict = {}
    exec(example("losses"), scope)
    assert torch.isfinite(scope["student"].grad).all()


def test_the_last_screen_of_the_quickstart_is_that_of_its_record(capsys, monkeypatch):
    monkeypatch.setitem(Console._environ, "COLUMNS", "80")
    record = RunRecord.read(ROOT / "docs" / "results" / "quickstart")
    folder = "runs/quickstart/student"
    show(record, "student", f"Distilled: {folder}", QuestionAnswering(DataArguments()), folder)
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "\n".join(printed) in README


# Row of the table to the record: a file of docs/results, and a cell of a comparison or its teacher.
ROWS = {
    ("MiniLM-L6, the teacher", 6): ("minilm_full", "teacher"),
    ("its student by ITRD (`minilm_t3`)", 3): ("minilm_full", "first/itrd_sequence/seed0"),
    ("MiniLM-L6: its student by KD alone", 3): ("minilm_full", "first/kd/seed0"),
    ("MPNet-base, the teacher", 12): ("mpnet_best_rates", "teacher"),
    ("its student by ITRD (`mpnet_t6`)", 6): ("mpnet_*", "T6/itrd/seed?"),
    ("MPNet-base: its student by KD alone", 6): ("mpnet_*", "T6/kd/seed?"),
    ("its student by ITRD (`mpnet_t3`)", 3): ("mpnet_*", "T3/itrd/seed?"),
    ("MPNet-base: its student by KD alone", 3): ("mpnet_*", "T3/kd/seed?"),
}
"""The comparison and the training; for MPNet's students the three seeds of `SEEDS`."""
SEEDS = ("mpnet_best_rates", "mpnet_seeds")


def test_every_figure_of_the_table_is_that_of_a_record():
    """Scores and sizes are those of the comparisons, times those of the quickstart's models of the same shape."""
    results = ROOT / "docs" / "results"
    quickstart = RunRecord.read(results / "quickstart")
    times = {quickstart.layers: quickstart.ms_per_question}
    times[quickstart.teacher.layers] = quickstart.teacher.ms_per_question
    (table,) = re.findall(r"\| model on SQuAD.*?\n\n", README, re.DOTALL)
    found, model = {}, ""
    for line in table.strip().splitlines()[2:]:
        label, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        model = label.partition(",")[0] if "teacher" in label else model
        name = f"{model}: {label}" if label.endswith("alone") else label
        found[name, int(cells[0])] = cells[1:]
    assert found.keys() == ROWS.keys()
    for (label, layers), (f1, ms, megabytes) in found.items():
        folder, cell = ROWS[label, layers]
        records = [
            json.loads(line)
            for name in (SEEDS if folder == "mpnet_*" else (folder,))
            for line in (results / name / "results.jsonl").read_text().splitlines()
        ]
        if cell == "teacher":
            runs = [records[0]["teacher"]]
        else:
            runs = [record for record in records if fnmatch(record["name"], cell)]
        assert len(runs) == (3 if folder == "mpnet_*" else 1), label
        shown = (f"{statistics.mean(run['f1'] for run in runs):.1f}", runs[0]["megabytes_fp32"])
        assert (runs[0]["layers"], shown[0], f"{shown[1]:.0f}") == (layers, f1, megabytes), label
        assert ms == (f"{times[layers]:.1f}" if folder == "minilm_full" else ""), label


def test_every_file_that_the_readme_names_exists():
    named = re.findall(r"\b(?:configs|scripts|docs)/[\w./]+\.(?:yaml|py|md|svg|png)\b", README)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_every_python_name_that_a_page_shows_exists(path):
    text = path.read_text(encoding="utf-8")
    for dotted in set(re.findall(r"\bitrd_nlp(?:\.\w+)+", text)):
        found, module = importlib.import_module("itrd_nlp"), "itrd_nlp"
        for part in dotted.split(".")[1:]:
            module = f"{module}.{part}"
            if not hasattr(found, part):
                importlib.import_module(module)
            found = getattr(found, part)
    for module, names in re.findall(r"from (itrd_nlp[\w.]*) import ([\w, ]+)", text):
        for name in names.split(","):
            assert hasattr(importlib.import_module(module), name.split(" as ")[0].strip())


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_every_link_to_a_page_or_a_heading_leads_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        page = path if not target else (path.parent / target)
        assert page.exists(), target
        if anchor:
            assert anchor in anchors(page), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page as GitHub makes them: of its headings, and those written out."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', text))


def test_the_pipeline_example_answers(tmp_path, monkeypatch, make_reader):
    monkeypatch.chdir(tmp_path)
    words = ["where", "does", "the", "rhine", "end", "?", "ends", "in", "north", "sea", "."]
    for part in make_reader(words, 2):
        part.save_pretrained("runs/quickstart/student")
    *lines, call = example("pipeline").strip().splitlines()
    scope: dict = {}
    exec("\n".join([*lines, f"answer = {call}"]), scope)
    answer = scope["answer"]
    assert "The Rhine ends in the North Sea."[answer["start"] : answer["end"]] == answer["answer"]
    assert 0 <= answer["score"] <= 1
