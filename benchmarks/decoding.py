"""From logits to EM/F1 on the whole dev set: this package against the usual loops.

    python benchmarks/decoding.py [--rounds 3] [--output FILE]

The logits are noise with a peak at the reference answer of every window that holds it, so that they are as sharp as a
trained model's and cost no model. Both decode and score the same ones; the share of equal answers is in the figures.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp import cli

DEV_FILE = "assets/squad/dev-v1.1.json"


@dataclass
class DecodingArguments:
    """What is measured."""

    rounds: int = field(default=3, metadata={"help": "Times each is measured, in turn."})
    output: str | None = field(default=None, metadata={"help": "Write the figures here, as JSON."})


def main() -> None:
    (args,) = cli.parse([DecodingArguments], description=__doc__)
    import numpy as np
    from rich.console import Console

    from benchmarks.harness import median, ratio
    from benchmarks.peers import nbest_decoding
    from benchmarks.windows import TOKENIZER
    from itrd_nlp.models import LoadingArguments, load_tokenizer
    from itrd_nlp.question_answering import best_answers, evaluate_predictions
    from itrd_nlp.question_answering.data import DataArguments, load_evaluation_data
    from itrd_nlp.results import environment, write_json

    tokenizer = load_tokenizer(TOKENIZER, LoadingArguments())
    data = load_evaluation_data(DataArguments(validation_file=DEV_FILE), tokenizer)
    features, examples = data.features, data.examples
    start, end = np.random.default_rng(0).normal(size=(2, len(features), 384)).astype(np.float32)
    rows = np.arange(len(features))
    start[rows, features["start_positions"][:]] += 8
    end[rows, features["end_positions"][:]] += 8

    runs: dict[str, list[dict[str, float]]] = {"ours": [], "loops": []}
    answers, scores = {}, {}
    for _ in range(args.rounds):
        began = time.perf_counter()
        answers["ours"] = best_answers(start, end, features, examples)
        decoded = time.perf_counter()
        scores["ours"] = evaluate_predictions(answers["ours"], examples)
        done = time.perf_counter()
        runs["ours"].append(
            {"decode": decoded - began, "score": done - decoded, "both": done - began}
        )
        began = time.perf_counter()
        answers["loops"] = nbest_decoding.answers(start, end, features, examples)
        decoded = time.perf_counter()
        scores["loops"] = nbest_decoding.score(answers["loops"], examples)
        done = time.perf_counter()
        runs["loops"].append(
            {"decode": decoded - began, "score": done - decoded, "both": done - began}
        )
    ratios = {
        name: ratio(runs["loops"], runs["ours"], name) for name in ("decode", "score", "both")
    }
    equal = np.mean([answers["loops"][i] == text for i, text in answers["ours"].items()])
    for name, found in ratios.items():
        seconds = (median(runs[who], name) for who in ("ours", "loops"))
        Console().print(name, *(f"{s:.2f} s" for s in seconds), f"x {found['median']:.1f}")
    Console().print(f"equal answers: {100 * equal:.2f} %", scores)
    if args.output is not None:
        content = {"ratios": ratios, "runs": runs, "scores": scores, "equal_answers": float(equal)}
        write_json(Path(args.output), content | {"environment": environment()})


if __name__ == "__main__":
    # In place of this folder, where profile.py would be taken for the standard library's.
    sys.path[0] = str(Path(__file__).parents[1])
    cli.run(main)
