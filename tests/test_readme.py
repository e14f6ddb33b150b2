"""What the README shows must run."""

import re
from pathlib import Path

import pytest
import torch
from transformers import BertForSequenceClassification, BertTokenizerFast

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


def test_every_file_that_the_readme_names_exists():
    named = re.findall(r"\b(?:configs|scripts|docs)/[\w./]+\.(?:yaml|py|md|svg|png)\b", README)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_pipeline_example_answers(tmp_path, monkeypatch, make_reader):
    monkeypatch.chdir(tmp_path)
    words = ["where", "does", "the", "rhine", "end", "?", "ends", "in", "north", "sea", "."]
    for part in make_reader(words, 2):
        part.save_pretrained("runs/my_student")
    *lines, call = example("pipeline").strip().splitlines()
    scope: dict = {}
    exec("\n".join([*lines, f"answer = {call}"]), scope)
    answer = scope["answer"]
    assert "The Rhine ends in the North Sea."[answer["start"] : answer["end"]] == answer["answer"]
    assert 0 <= answer["score"] <= 1
