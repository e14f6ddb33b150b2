"""Measure the ratios of the other benchmarks at a size that takes seconds. A test compares them with recorded ones.

    python -m benchmarks.smoke

Everything runs on one thread, and the candidates take turns. The training steps use models of 4 layers and width 128 on
random windows. The losses read 2,048 samples. Span decoding and scoring use 1,000 made-up questions. The last line of
the output is a JSON object of ratios. A ratio above 1 means that this package is faster or smaller, except for
`kd_over_itrd`.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import ratio, take_turns
from itrd_nlp.cli import process

STEPS, BATCH_SIZE, ROUNDS = 6, 8, 3


def training_ratios() -> dict[str, float]:
    """Compare the seconds of a step with ITRD with those of KD alone, of the teacher cache and of TextBrewer."""
    from benchmarks.peers.textbrewer_squad import seconds_per_step
    from benchmarks.training import random_models, train
    from benchmarks.windows import random_collator, random_windows

    windows = random_windows([120 + i % 80 for i in range(STEPS * BATCH_SIZE)])
    rows = windows.to_list()
    padded = random_collator(pad_to_multiple_of=384)
    batches = [padded(rows[i : i + BATCH_SIZE]) for i in range(0, len(rows), BATCH_SIZE)]

    def ours(**objective: Any) -> float:
        clock = train(
            "tiny",
            2,
            windows,
            random_collator(),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH_SIZE,
            **objective,
        )
        return statistics.median(clock.steps()[1:])

    def textbrewer() -> float:
        teacher, student = random_models("tiny", 2, dropout=0.1, attention="sdpa")
        with tempfile.TemporaryDirectory() as folder:
            times = seconds_per_step(teacher.eval(), student, batches, Path(folder), bf16=False)
        return statistics.median(times[1:])

    with tempfile.TemporaryDirectory() as cache:
        cached = {"teacher_cache": "on", "teacher_cache_dir": cache}
        ours(**cached)  # fills the cache
        found = [
            {
                "itrd": ours(),
                "kd": ours(beta_corr=0, beta_mi=0),
                "cached": ours(**cached),
                "textbrewer": textbrewer(),
            }
            for _ in range(ROUNDS)
        ]
    return {
        "kd_over_itrd": statistics.median(f["kd"] / f["itrd"] for f in found),
        "itrd_over_cached": statistics.median(f["itrd"] / f["cached"] for f in found),
        "textbrewer_over_itrd": statistics.median(f["textbrewer"] / f["itrd"] for f in found),
    }


def loss_ratios() -> dict[str, float]:
    """Divide seconds and memory of the written-out formulas by those of the losses, in separate processes."""
    size = ["--samples", "2048", "--features", "64", "--worker"]
    workers = {name: [*size, name] for name in ("ours", "formulas")}
    runs = take_turns("losses", workers, 2)
    return {
        f"losses_{name}": ratio(runs["formulas"], runs["ours"], name)["median"]
        for name in ("seconds", "megabytes")
    }


def decoding_ratio() -> dict[str, float]:
    """Divide the seconds of the loops by those of the vectorised search, from logits to EM/F1."""
    import numpy as np
    from datasets import Dataset

    from benchmarks.peers import nbest_decoding
    from itrd_nlp.tasks.question_answering import best_answers, evaluate_predictions

    questions, length = 1000, 200
    first = np.arange(length) * 5
    context = "some " * length
    draw = np.random.default_rng(0)
    answers = draw.integers(length - 1, size=questions)
    start, end = draw.normal(size=(2, questions, length)).astype(np.float32)
    for logits in (start, end):
        logits += 8 * np.exp(-np.abs(np.arange(length) - answers[:, None]) / 4)
    names = [str(i) for i in range(questions)]
    features = Dataset.from_dict(
        {
            "example_id": names,
            "length": [length] * questions,
            "char_start": [first] * questions,
            "char_end": [first + 4] * questions,
        }
    )
    texts = [{"text": ["some", "some some"], "answer_start": [int(5 * i)] * 2} for i in answers]
    examples = Dataset.from_dict({"id": names, "context": [context] * questions, "answers": texts})

    def seconds(decode: Callable[..., Any], score: Callable[..., Any]) -> float:
        began = time.perf_counter()
        score(decode(start, end, features, examples), examples)
        return time.perf_counter() - began

    seconds(best_answers, evaluate_predictions)  # loads everything that is needed only once
    ratios = [
        seconds(nbest_decoding.answers, nbest_decoding.score)
        / seconds(best_answers, evaluate_predictions)
        for _ in range(ROUNDS)
    ]
    return {"decoding": statistics.median(ratios)}


def main() -> None:
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that this one starts
    torch.set_num_threads(1)
    print(json.dumps(training_ratios() | loss_ratios() | decoding_ratio()))


if __name__ == "__main__":
    process.run(main)
