"""A tiny teacher, a small SQuAD and a base config on disk; and records as a comparison leaves them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from itrd_nlp.files import write_json

WORDS = ["river", "rhine", "flows", "past", "basel", "and", "bonn", "it", "meets", "sea", "what"]

BASE = {
    "teacher": "teacher",
    "num_layers": 2,
    "train_file": "train.json",
    "validation_file": "dev.json",
    "max_length": 64,
    "doc_stride": 16,
    "preprocessing_num_workers": 1,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "train_sampling_strategy": "group_by_length",
    "output_dir": "never",
    "save_strategy": "no",
    "logging_steps": 1,
    "report_to": "none",
}


def squad(articles: int, *, seed: int) -> dict[str, Any]:
    """Two contexts an article, two questions a context: which word comes after this one?"""
    draw = random.Random(seed)

    def paragraph(name: str) -> dict[str, Any]:
        words = [draw.choice(WORDS[:-1]) for _ in range(25)]
        qas = []
        for q in range(2):
            at = draw.randrange(3, 23)
            answer = {"text": words[at], "answer_start": len(" ".join(words[:at])) + 1}
            qas.append(
                {"id": f"{name}-{q}", "question": f"what {words[at - 1]}", "answers": [answer]}
            )
        return {"context": " ".join(words), "qas": qas}

    return {
        "data": [
            {"title": f"{seed}-{a}", "paragraphs": [paragraph(f"{seed}-{a}-{p}") for p in range(2)]}
            for a in range(articles)
        ]
    }


@pytest.fixture(scope="session")
def write_workplace(make_reader: Any) -> Callable[[Path], Path]:
    """Write `teacher`, `train.json`, `dev.json` and `base.yaml` into a folder."""

    def write_workplace(folder: Path) -> Path:
        model, tokenizer = make_reader(WORDS, 4, max_position_embeddings=64)
        model.save_pretrained(folder / "teacher")
        tokenizer.save_pretrained(folder / "teacher")
        write_json(folder / "train.json", squad(8, seed=1))
        write_json(folder / "dev.json", squad(4, seed=2))
        (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
        return folder

    return write_workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, write_workplace: Any) -> Path:
    return write_workplace(tmp_path_factory.mktemp("workplace"))


def record(
    student: str, method: str, seed: int, f1: np.ndarray, *, layers: int = 3, **changes: Any
) -> dict[str, Any]:
    """The record that `collect` makes of one training, with these F1 of its questions."""
    return {
        "stage": "cells",
        "name": f"{student}/{method}/seed{seed}",
        "student": student,
        "method": method,
        "number": seed,
        "seed": seed,
        "overrides": {},
        "exact_match": 100 * float((f1 == 1).mean()),
        "f1": 100 * float(f1.mean()),
        "questions": len(f1),
        "signature": "0123",
        "layers": layers,
        "parameters": 17_242_754,
        "megabytes_fp32": 69.0,
        "train_seconds": 200.0 + seed,
        "cost": None,
        "teacher": {
            "name": "t",
            "layers": 6,
            "parameters": 22_566_146,
            "megabytes_fp32": 90.3,
            "exact_match": 72.24,
            "f1": 82.08,
        },
        "curves": {
            "task": [[step, 5.0 - step / 40 - seed / 10] for step in (25, 50, 75)],
            "eval_f1": [[75, 60.0]],
        },
        **changes,
    }


@pytest.fixture
def make_record() -> Any:
    return record


def outcome(
    methods: dict[str, float],
    *,
    seeds: int = 2,
    questions: int = 40,
    student: str = "T3",
    **more: Any,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Records and scores of methods whose questions are answered well (F1 1, 0.5 or 0) at these rates."""
    generator = np.random.default_rng(7)
    records, scores = [], {}
    for seed in range(seeds):
        for method, rate in methods.items():
            f1 = (generator.random((2, questions)) < rate).mean(axis=0)
            records.append(record(student, method, seed, f1, **more))
            scores[f"{student}/{method}/seed{seed}/f1"] = f1.astype(np.float16)
            scores[f"{student}/{method}/seed{seed}/exact_match"] = (f1 == 1).astype(np.uint8)
    return records, scores


@pytest.fixture
def make_outcome() -> Any:
    return outcome
