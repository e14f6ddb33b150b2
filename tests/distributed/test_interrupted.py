"""Two processes of which one is told to stop: both save the same checkpoint, and the run resumes to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from transformers import BertTokenizerFast

from itrd_nlp.training.checkpoints import checkpoints

ROOT = Path(__file__).parents[2]
WORDS = [f"w{i}" for i in range(59)]
EXPERIMENT = """
teacher: teacher
num_layers: 2
dropout: 0.1
train_file: train.json
validation_file: train.json
max_length: 40
doc_stride: 8
per_device_train_batch_size: 4
num_train_epochs: 50
learning_rate: 1e-3
train_sampling_strategy: group_by_length
logging_steps: 10
save_strategy: steps
save_steps: 5
mi_max_samples: 16
preprocessing_num_workers: 1
report_to: none
seed: 0
"""


@pytest.fixture
def workplace(tmp_path: Path, make_bert) -> Path:
    make_bert(4, seed=0).save_pretrained(tmp_path / "teacher")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizerFast(vocab={t: i for i, t in enumerate(tokens)}).save_pretrained(
        tmp_path / "teacher"
    )
    paragraphs = []
    for i in range(20):
        words = [WORDS[(i * 7 + j * 3) % 50] for j in range(12 + i % 9)]
        answer = {"text": words[0], "answer_start": 0}
        question = {"id": f"q{i}", "question": f"w{i}", "answers": [answer]}
        paragraphs.append({"context": " ".join(words), "qas": [question]})
    data = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
    (tmp_path / "train.json").write_text(json.dumps(data))
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    return tmp_path


def start(folder: Path, output_dir: str) -> subprocess.Popen[str]:
    config = str(ROOT / "configs" / "accelerate" / "cpu_2proc.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    command += [str(ROOT / "scripts" / "train_squad.py"), "experiment.yaml"]
    command += ["--output_dir", output_dir, "--resume_from_checkpoint", "true"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(folder / "cache"),
    }
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, output_dir: str) -> dict[str, bytes]:
    process = start(folder, output_dir)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    last = checkpoints(folder / output_dir)[0]
    names = ("model.safetensors", "objective.safetensors", "rng_state_0.pth", "rng_state_1.pth")
    return {name: (last / name).read_bytes() for name in names}


@pytest.mark.slow
def test_one_process_that_is_told_to_stop_stops_both_and_nothing_is_lost(workplace):
    process = start(workplace, "stopped")
    until = time.monotonic() + 200
    while not checkpoints(workplace / "stopped") and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    ranks = {
        child.environ().get("RANK"): child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "RANK" in child.environ()
    }
    ranks["1"].send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert errors.count("stopped by SIGTERM") == 1, errors
    newest = checkpoints(workplace / "stopped")[0].name
    assert int(newest.rpartition("-")[2]) % 10 == 0
    assert f"{newest} is saved" in errors

    resumed, undisturbed = finish(workplace, "stopped"), finish(workplace, "undisturbed")
    assert [name for name, content in undisturbed.items() if resumed[name] != content] == []
