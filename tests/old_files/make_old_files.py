"""Make the files of this folder: what the scripts left behind before the modules moved into packages.

    git worktree add ../old 64e36c2
    python tests/old_files/make_old_files.py ../old

runs the scripts of that checkout, which must be of COMMIT, in an empty folder and copies what they leave next to this
file. test_old_files.py holds the code of today against it: what users have on their disks must still be read. So the
files are never made again by newer code; where a test fails, the code is wrong and not the files.

    encoder            random weights, to start from; it is not kept
    teacher            scripts/train_teacher.py teacher.yaml
    student            scripts/train_squad.py student.yaml, with the checkpoint in the middle of its third epoch
    teacher_cache      what both trainings below read of the teacher: student.yaml and compare.yaml
    compare            scripts/compare.py compare.yaml: two methods, one seed; weights, reports and figures are not kept
    classifier         scripts/train_classifier.py classifier.yaml

All of it was made on an x86-64 CPU with one thread, in fp32, by the versions that results.json names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizerFast

COMMIT = "64e36c2"
HERE = Path(__file__).parent

NAMES = ["anna", "bert", "clara", "david", "emma", "felix", "greta", "hugo", "ida", "jan"]
TOWNS = ["rome", "paris", "oslo", "basel", "bonn", "madrid", "vienna", "prague", "dublin", "riga"]
THINGS = ["pens", "maps", "books", "hats", "lamps", "bells"]
OTHERS = ["lives", "live", "in", "sells", "sell", "where", "what", "does", "and", "good", "bad"]
WORDS = [*NAMES, *TOWNS, *THINGS, *OTHERS, ".", "?"]
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]

# use_cpu: a machine with a GPU must not make another experiment of it.
TRAINING: dict[str, Any] = {
    "max_length": 48,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "lr_scheduler_type": "linear",
    "optim": "adamw_torch",
    # Larger than usual: a gradient that is zero but for rounding, as that of a bias of the keys, stays a small step.
    "adam_epsilon": 1e-5,
    "seed": 0,
    "use_cpu": True,
    "logging_steps": 1,
    "disable_tqdm": True,
    "report_to": "none",
}
QUESTIONS = {
    "train_file": "train.json",
    "validation_file": "dev.json",
    "doc_stride": 16,
    "train_sampling_strategy": "group_by_length",
}
TEACHER = {
    "model_name_or_path": "encoder",
    "dropout": 0.0,
    **QUESTIONS,
    **TRAINING,
    "output_dir": "teacher",
    "num_train_epochs": 15,
    "learning_rate": 3e-3,
    "save_strategy": "no",
}
STUDENT = {
    "teacher": "teacher",
    "num_layers": 2,
    "student_init": "first",
    "dropout": 0.0,
    **QUESTIONS,
    "layer_map": "uniform",
    "w_task": 1.0,
    "w_kd": 1.0,
    "temperature": 2.0,
    "beta_corr": 2.0,
    "beta_mi": 1.0,
    "teacher_cache": "on",
    "teacher_cache_dir": "teacher_cache",
    **TRAINING,
    "output_dir": "student",
    "num_train_epochs": 4,
    "learning_rate": 2e-3,
    "save_strategy": "steps",
    "save_steps": 7,
}
# Other questions than the teacher was judged on, so that its answers to them go into the cache.
BASE = {**STUDENT, "max_eval_samples": 8, "num_train_epochs": 3, "save_strategy": "no"}
COMPARE = {
    "base": "base.yaml",
    "output_dir": "compare",
    "seeds": [0],
    "reference": "kd",
    "methods": {
        "kd": {"beta_corr": 0, "beta_mi": 0},
        "itrd": {"peer_losses": {"itrd_nlp.losses.peers.DistilBertCosine": 1.0}},
    },
    "students": {"T2": {"num_layers": 2}},
}
CLASSIFIER = {
    "model_name_or_path": "student",
    "dropout": 0.0,
    "train_file": "texts.jsonl",
    "validation_file": "texts.jsonl",
    **TRAINING,
    "output_dir": "classifier",
    "num_train_epochs": 12,
    "learning_rate": 2e-3,
    "save_strategy": "no",
}
CONFIGS = {
    "teacher": TEACHER,
    "student": STUDENT,
    "base": BASE,
    "compare": COMPARE,
    "classifier": CLASSIFIER,
}
RUNS = (
    ("train_teacher.py", "teacher.yaml"),
    ("train_squad.py", "student.yaml"),
    ("compare.py", "compare.yaml"),
    ("train_classifier.py", "classifier.yaml"),
)
KEPT = ("teacher", "student", "teacher_cache", "compare", "classifier")
NOT_KEPT = (
    "student/checkpoint-12",  # the end; the one in the middle is the one to resume from
    "compare/.lock",
    # large, and read by nothing
    "compare/*.png",
    "compare/*.svg",
    "compare/cells/*/*/*/model.safetensors",
    "compare/cells/*/*/*/report.html",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help=f"folder of the repository at {COMMIT}")
    checkout = parser.parse_args().checkout.resolve()
    head = git(checkout, "rev-parse", "HEAD")
    if not head.startswith(COMMIT) or git(checkout, "status", "--porcelain", "itrd_nlp", "scripts"):
        sys.exit(f"error: {checkout} is not the unchanged commit {COMMIT}.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_inputs(folder)
        for script, config in RUNS:
            run(checkout, script, config, folder)
        keep(folder)


def git(checkout: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", "-C", str(checkout), *arguments], text=True).strip()


def write_inputs(folder: Path) -> None:
    """Write the encoder, the data and the configs."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(TOKENS),
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=48,
        initializer_range=0.2,
    )
    BertForQuestionAnswering(config).save_pretrained(folder / "encoder")
    tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(TOKENS)})
    tokenizer.save_pretrained(folder / "encoder")
    (folder / "train.json").write_text(json.dumps(squad(12, "train", shift=1)) + "\n")
    (folder / "dev.json").write_text(json.dumps(squad(6, "dev", shift=4)) + "\n")
    rows = [
        {
            "text": f"{NAMES[i]} sells {'good' if i % 2 else 'bad'} {THINGS[i % 6]} .",
            "label": "good" if i % 2 else "bad",
        }
        for i in range(8)
    ]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, content in CONFIGS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def squad(contexts: int, name: str, shift: int) -> dict[str, Any]:
    """Contexts of two sentences and a question about each of them: where does one live, what does another sell?"""
    paragraphs = []
    for i in range(contexts):
        first, second = NAMES[i % 10], NAMES[(i + shift) % 10]
        town, thing = TOWNS[(3 * i + shift) % 10], THINGS[(i + shift) % 6]
        context = f"{first} lives in {town} . {second} sells {thing} ."
        asked = ((f"where does {first} live ?", town), (f"what does {second} sell ?", thing))
        questions = [
            {
                "id": f"{name}-{i}-{number}",
                "question": question,
                "answers": [{"text": answer, "answer_start": context.index(answer)}],
            }
            for number, (question, answer) in enumerate(asked)
        ]
        paragraphs.append({"context": context, "qas": questions})
    return {"version": "1.1", "data": [{"title": name, "paragraphs": paragraphs}]}


def run(checkout: Path, script: str, config: str, folder: Path) -> None:
    """Run a script of the checkout with the code of the checkout, all paths relative to the folder."""
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(folder / "hf_home"),
    }
    subprocess.run(
        [sys.executable, str(checkout / "scripts" / script), config],
        cwd=folder,
        env=environment,
        check=True,
    )


def keep(folder: Path) -> None:
    """Put what is kept in the place of what was here."""
    for pattern in NOT_KEPT:
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in KEPT:
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(folder / name, HERE / name)
    for pattern in ("*.json", "*.jsonl", "*.yaml"):
        for path in folder.glob(pattern):
            shutil.copy(path, HERE)


if __name__ == "__main__":
    main()
