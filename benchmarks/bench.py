"""All benchmarks, one after another: `benchmarks/results.json` and the tables and plots of `docs/performance.md`.

    python benchmarks/bench.py [--only losses decoding] [--utils_qa FILE] [--page_only true]

About half an hour on two cores, an hour on a CPU without instructions for bf16; nothing else should run meanwhile. The
results have a part for each precision that trainings had, bfloat16 or float32, and one for a GPU. What was measured
before and is not now, stays.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itrd_nlp.cli import parser, process

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"

# Name in the results -> script and arguments.
BENCHMARKS = {
    "profile": ["profile.py"],
    "train_step_bert": ["train_step.py", "--shape", "bert", "--student_layers", "6"],
    "train_step_minilm": ["train_step.py", "--shape", "minilm", "--student_layers", "3"],
    "overhead_minilm": ["overhead.py", "--shape", "minilm", "--student_layers", "3"],
    "overhead_bert": [
        *("overhead.py", "--shape", "bert", "--student_layers", "6"),
        *("--steps", "4", "--rounds", "3"),
    ],
    "matmul_share_minilm": ["matmul_share.py", "--shape", "minilm", "--student_layers", "3"],
    "matmul_share_bert": ["matmul_share.py", "--shape", "bert", "--student_layers", "6"],
    "losses": ["losses.py", "--sweep", "true"],
    "decoding": ["decoding.py"],
    "scaling": ["scaling.py"],
}


@dataclass
class BenchArguments:
    """What is run."""

    only: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Run these alone; default: all and the smoke test's ratios.",
            "choices": [*BENCHMARKS, "smoke"],
        },
    )
    utils_qa: str | None = field(
        default=None, metadata={"help": "See benchmarks/decoding.py; left out where not given."}
    )
    page_only: bool = field(
        default=False, metadata={"help": "Write tables and plots of the recorded results anew."}
    )


def measure(name: str, args: BenchArguments, *, on_gpu: bool) -> dict[str, Any]:
    """Run one benchmark, its output in sight, and return its figures."""
    if name == "smoke":
        command = [sys.executable, str(ROOT / "benchmarks" / "smoke.py")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    script, *arguments = BENCHMARKS[name]
    if name.startswith("train_step") and on_gpu:
        arguments += ["--steps", "24"]  # of a twentieth of a second each
    if name == "decoding" and args.utils_qa is not None:
        arguments += ["--utils_qa", args.utils_qa]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "figures.json"
        command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
        subprocess.run([*command, "--output", str(output)], check=True)
        found = json.loads(output.read_text())
    for what in ("output", "worker", "utils_qa"):
        found.get("arguments", {}).pop(what, None)
    return found


def main() -> None:
    (args,) = parser.parse([BenchArguments], description=__doc__)
    from benchmarks.page import write_page
    from benchmarks.training import training_precision
    from itrd_nlp.files import write_json

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not args.page_only:
        precision = training_precision()
        for name in args.only or [*BENCHMARKS, "smoke"]:
            print(f"== {name} ({precision})", flush=True)
            results.setdefault(precision, {})[name] = measure(
                name, args, on_gpu=precision == "cuda"
            )
            write_json(RESULTS, results)
    write_page(results, ROOT / "docs")


if __name__ == "__main__":
    # In place of this folder, where profile.py would be taken for the standard library's.
    sys.path[0] = str(ROOT)
    process.run(main)
