"""From logits to EM/F1 on the whole dev set: this package against the usual loops.

    python benchmarks/decoding.py [--rounds 3] [--utils_qa FILE] [--output FILE]

The logits are noise and a peak at the reference answer, which falls off over the tokens beside it as a trained model's
does, so that the best starts and ends lie near each other. They cost no model. All decode and score the same ones; the
share of equal answers is in the figures.

``--utils_qa`` names a copy of ``utils_qa.py`` of the question-answering examples of transformers
(https://github.com/huggingface/transformers/tree/main/examples/pytorch/question-answering), which is then measured too,
its scoring by the definition of SQuAD written as loops.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itrd_nlp.cli import parser, process

DEV_FILE = "assets/squad/dev-v1.1.json"


@dataclass
class DecodingArguments:
    """What is measured."""

    rounds: int = field(default=3, metadata={"help": "Times each is measured, in turn."})
    utils_qa: str | None = field(
        default=None, metadata={"help": "A copy of the example's utils_qa.py, to be measured, too."}
    )
    output: str | None = field(default=None, metadata={"help": "Write the figures here, as JSON."})


def example_decoder(path: str, features: Any) -> Callable[..., dict[str, str]]:
    """`postprocess_qa_predictions` of the file, which wants its windows in a form of its own."""
    spec = importlib.util.spec_from_file_location("utils_qa", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def offsets(window: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(window["char_start"], window["char_end"], strict=True)
        return {"offset_mapping": [None if first < 0 else [first, last] for first, last in pairs]}

    windows = features.map(offsets).select_columns(["example_id", "offset_mapping"])

    def decode(start: Any, end: Any, _: Any, examples: Any) -> dict[str, str]:
        return dict(module.postprocess_qa_predictions(examples, windows, (start, end)))

    return decode


def main() -> None:
    (args,) = parser.parse([DecodingArguments], description=__doc__)
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from benchmarks.harness import median, ratio
    from benchmarks.peers import nbest_decoding
    from benchmarks.windows import TOKENIZER
    from itrd_nlp.files import write_json
    from itrd_nlp.models.loading import LoadingArguments, load_tokenizer
    from itrd_nlp.tasks.question_answering import best_answers, evaluate_predictions
    from itrd_nlp.tasks.question_answering.data import DataArguments, load_evaluation_data
    from itrd_nlp.training.results import environment

    tokenizer = load_tokenizer(TOKENIZER, LoadingArguments())
    data = load_evaluation_data(DataArguments(validation_file=DEV_FILE), tokenizer)
    features, examples = data.features, data.examples
    start, end = np.random.default_rng(0).normal(size=(2, len(features), 384)).astype(np.float32)
    for logits, column in ((start, "start_positions"), (end, "end_positions")):
        distance = np.abs(np.arange(384) - np.array(features[column][:])[:, None])
        logits += 8 * np.exp(-distance / 4)

    candidates: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "ours": (best_answers, evaluate_predictions),
        "loops": (nbest_decoding.answers, nbest_decoding.score),
    }
    if args.utils_qa is not None:
        candidates["utils_qa"] = (example_decoder(args.utils_qa, features), nbest_decoding.score)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in candidates}
    answers, scores = {}, {}
    for _ in range(args.rounds):
        for name, (decode, score) in candidates.items():
            began = time.perf_counter()
            answers[name] = decode(start, end, features, examples)
            decoded = time.perf_counter()
            scores[name] = score(answers[name], examples)
            done = time.perf_counter()
            figures = {"decode": decoded - began, "score": done - decoded, "both": done - began}
            runs[name].append(figures)
    equal = {
        name: float(np.mean([found[i] == text for i, text in answers["ours"].items()]))
        for name, found in answers.items()
    }
    ratios = {
        f"{name} / ours": {
            what: ratio(runs[name], runs["ours"], what) for what in ("decode", "score", "both")
        }
        for name in candidates
        if name != "ours"
    }
    table = Table(title=f"{len(examples)} questions, median of {args.rounds}")
    for column in ("", "decode, s", "score, s", "equal answers"):
        table.add_column(column, justify="right")
    for name, found in runs.items():
        seconds = (f"{median(found, what):.2f}" for what in ("decode", "score"))
        table.add_row(name, *seconds, f"{100 * equal[name]:.2f} %")
    for name, found_ratios in ratios.items():
        table.add_row(
            name,
            *(f"x {found_ratios[what]['median']:.1f}" for what in ("decode", "score")),
            f"x {found_ratios['both']['median']:.1f} in all",
        )
    Console().print(table)
    if args.output is not None:
        content = {"ratios": ratios, "runs": runs, "scores": scores, "equal_answers": equal}
        write_json(Path(args.output), content | {"environment": environment()})


if __name__ == "__main__":
    # In place of this folder, where profile.py would be taken for the standard library's.
    sys.path[0] = str(Path(__file__).parents[1])
    process.run(main)
