"""`accelerate launch --config_file configs/accelerate/cpu_2proc.yaml scripts/train_squad.py`, from files to results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from transformers import BertTokenizerFast

from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks.question_answering.arguments import DataArguments

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))  # test folders are no packages

from workflows import evaluate_checkpoint

ROOT = Path(__file__).parents[2]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{i}" for i in range(64 - len(SPECIAL))]
SHAPE = {"max_length": 40, "doc_stride": 8}
EXPERIMENT = """
teacher: teacher
num_layers: 2
train_file: train.json
validation_file: dev.json
max_length: 40
doc_stride: 8
output_dir: student
per_device_train_batch_size: 4
per_device_eval_batch_size: 3
num_train_epochs: 1
learning_rate: 1e-3
train_sampling_strategy: group_by_length
logging_steps: 1
eval_strategy: steps
eval_steps: 1
save_strategy: steps
save_steps: 1
load_best_model_at_end: true
metric_for_best_model: f1
preprocessing_num_workers: 1
report_to: none
seed: 0
"""


def squad_file(path: Path, *, questions: int, answers: dict[str, str] | None = None) -> None:
    """Contexts of 15 to 45 words, so that some have one window and some have two."""
    paragraphs = []
    for i in range(questions):
        words = [WORDS[(i * 7 + j * j + j) % 50] for j in range(15 + 13 * i % 31)]
        context, name = " ".join(words), f"q{i}"
        text = answers[name] if answers else words[3]
        answer = {"text": text, "answer_start": context.index(text)}
        question = {"id": name, "question": f"w{i} w{i + 1}", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [question]})
    data = [{"title": "t", "paragraphs": paragraphs}]
    path.write_text(json.dumps({"version": "1.1", "data": data}))


@pytest.fixture
def workplace(tmp_path: Path, make_bert, monkeypatch) -> Path:
    """A teacher, and 11 questions of which it answers some right, some in part and some wrong."""
    monkeypatch.chdir(tmp_path)
    make_bert(4, seed=0).save_pretrained("teacher")
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    BertTokenizerFast(vocab=vocabulary).save_pretrained("teacher")
    squad_file(Path("train.json"), questions=24)
    squad_file(Path("unanswered.json"), questions=11)
    _, predictions = evaluate("teacher", "unanswered.json")
    answers = {}
    for i, (name, text) in enumerate(predictions.items()):
        words = text.split()
        answers[name] = [text, words[0], " ".join(words[:2])][i % 3]
    squad_file(Path("dev.json"), questions=11, answers=answers)
    Path("experiment.yaml").write_text(EXPERIMENT)
    return tmp_path


def evaluate(model: str, file: str):
    data = DataArguments(validation_file=file, preprocessing_num_workers=1, **SHAPE)
    return evaluate_checkpoint(model, LoadingArguments(), data, batch_size=3)


def test_two_processes_distil_a_student_whose_scores_are_those_of_one_process(launch, workplace):
    done = launch(workplace, str(ROOT / "scripts" / "train_squad.py"), "experiment.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Distilled: student") == 1  # said by one process
    assert "find_unused_parameters" not in done.stderr

    results = json.loads((workplace / "student" / "results.json").read_text())
    assert results["steps"] == 4  # 8 windows a step, of 24 questions with one or two each
    assert results["questions"] == 11
    teacher, _ = evaluate("teacher", "dev.json")
    student, _ = evaluate("student", "dev.json")
    for name in ("exact_match", "f1"):
        assert results["teacher"][name] == teacher[name]
        assert results[name] == student[name]
    assert 0 < teacher["exact_match"] < teacher["f1"] < 100

    state = json.loads((workplace / "student" / "checkpoint-4" / "trainer_state.json").read_text())
    scores = [entry["eval_f1"] for entry in state["log_history"] if "eval_f1" in entry]
    assert len(scores) == 4
    assert state["best_metric"] == max(scores) == results["f1"]


@pytest.mark.slow
def test_no_process_writes_the_token_into_a_checkpoint_or_a_model(launch, workplace):
    token = "ordinary-words-of-mine"
    lines = EXPERIMENT.replace("teacher: teacher\nnum_layers: 2", "model_name_or_path: teacher")
    Path("teacher.yaml").write_text(lines)
    script = str(ROOT / "scripts" / "train_teacher.py")
    done = launch(workplace, script, "teacher.yaml", "--hub-token", token)
    assert done.returncode == 0, done.stderr
    pickled = [*(workplace / "student").rglob("training_args.bin")]
    assert len(pickled) == 5  # of four checkpoints and the model
    for path in (path for path in workplace.rglob("*") if path.is_file()):
        assert token.encode() not in path.read_bytes(), path
