"""Compare this package with the usual loops, from logits to EM/F1 on the whole dev set.

    python -m benchmarks.decoding [--rounds 3] [--utils_qa FILE] [--output FILE]

No model runs. The logits are noise with a peak at the reference answer. The peak falls off over the neighbouring tokens
as in a trained model, so that the best starts and ends lie near each other. All candidates decode and score the same
logits. The figures contain the share of equal answers.

``--utils_qa`` names a copy of ``utils_qa.py`` from the question-answering examples of transformers
(https://github.com/huggingface/transformers/tree/main/examples/pytorch/question-answering). The benchmark then measures
its decoding, too, together with loops that score by the definition of SQuAD.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import median, ratio
from itrd_nlp.cli import parser, process

DEV_FILE = "assets/squad/dev-v1.1.json"


@dataclass
class DecodingArguments:
    """Options of this command."""

    rounds: int = field(default=3, metadata={"help": "Number of measurements of each candidate."})
    utils_qa: str | None = field(
        default=None, metadata={"help": "Also measure this copy of the example's utils_qa.py."}
    )
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )


def example_decoder(path: str, features: Any) -> Callable[..., dict[str, str]]:
    """Load `postprocess_qa_predictions` from the file, and convert the windows to the form that it needs."""
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


def dev_set() -> tuple[Any, Any, Any, Any]:
    """Return the windows and the questions of the dev set, and the made-up logits of starts and ends."""
    import numpy as np

    from benchmarks.windows import TOKENIZER
    from itrd_nlp.models.loading import load_tokenizer
    from itrd_nlp.models.options import LoadingArguments
    from itrd_nlp.tasks.question_answering.arguments import DataArguments
    from itrd_nlp.tasks.question_answering.data import load_evaluation_data

    tokenizer = load_tokenizer(TOKENIZER, LoadingArguments())
    data = load_evaluation_data(DataArguments(validation_file=DEV_FILE), tokenizer)
    features = data.features
    start, end = np.random.default_rng(0).normal(size=(2, len(features), 384)).astype(np.float32)
    for logits, column in ((start, "start_positions"), (end, "end_positions")):
        distance = np.abs(np.arange(384) - np.array(features[column][:])[:, None])
        logits += 8 * np.exp(-distance / 4)
    return features, data.examples, start, end


def main() -> None:
    (args,) = parser.parse([DecodingArguments], description=__doc__)
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from benchmarks.peers import nbest_decoding
    from itrd_nlp.files import write_json
    from itrd_nlp.tasks.question_answering import best_answers, evaluate_predictions
    from itrd_nlp.training.results import environment

    features, examples, start, end = dev_set()
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
    process.run(main)
