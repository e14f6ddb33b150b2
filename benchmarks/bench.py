"""Run all benchmarks one after another. Write `benchmarks/results.json` and the figures of `docs/performance.md`.

    python benchmarks/bench.py [--only losses decoding] [--utils_qa FILE] [--page_only true]
    python benchmarks/bench.py --only train_step_bert --output_file FILE  # where nothing but the figures is kept
    python benchmarks/bench.py --merge FILE

This takes about half an hour on two cores, and an hour on a CPU without instructions for bf16. Nothing else should run
at the same time. The results have one part for each precision of the trainings (bfloat16 or float32), and one for a
GPU. Earlier results stay unless they are measured again. It needs no network where `assets/` is there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itrd_nlp.cli import parser, process

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"

MINILM = ["--shape", "minilm", "--student_layers", "3"]
BERT = ["--shape", "bert", "--student_layers", "6"]
# From names in the results to modules and their arguments.
BENCHMARKS = {
    "profile": ["profile"],
    "train_step_bert": ["train_step", *BERT],
    "train_step_minilm": ["train_step", *MINILM],
    "overhead_minilm": ["overhead", *MINILM],
    "overhead_bert": ["overhead", *BERT, "--steps", "4", "--rounds", "3"],
    "matmul_share_minilm": ["matmul_share", *MINILM],
    "matmul_share_bert": ["matmul_share", *BERT],
    "losses": ["losses", "--sweep", "true"],
    "decoding": ["decoding"],
    "scaling": ["scaling"],
}
WITHOUT_TURNS = ("profile", "scaling")
SHORT_TURNS = ("matmul_share_minilm", "matmul_share_bert")
"""Their turns take less time than the start of a process, so `--rounds` leaves them their own number."""


@dataclass
class BenchArguments:
    """Options of this command."""

    only: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Run only these benchmarks. Default: all of them, with the ratios of the smoke test.",
            "choices": [*BENCHMARKS, "smoke"],
        },
    )
    rounds: int | None = field(
        default=None,
        metadata={"help": "Turns of each benchmark but matmul_share. Default: its own number."},
    )
    utils_qa: str | None = field(
        default=None, metadata={"help": "A copy of utils_qa.py, see benchmarks/decoding.py."}
    )
    output_file: str | None = field(
        default=None,
        metadata={
            "help": "Write the results to this JSON file after each benchmark, and what there is of one that SIGTERM "
            "ends. Leave `results.json` and the page. Default: write `results.json` and the page."
        },
    )
    merge: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Measure nothing. Take the results of these files of --output_file over, and write the page."
        },
    )
    page_only: bool = field(
        default=False,
        metadata={"help": "Measure nothing. Write tables and plots from the recorded results."},
    )


def measure(
    name: str, args: BenchArguments, note: Callable[[dict[str, Any]], None], *, on_gpu: bool
) -> bool:
    """Run one benchmark. Its output goes to the terminal.

    Args:
        name: a key of `BENCHMARKS`, or ``smoke``.
        args: options of this command.
        note: gets the figures, if there are any. With ``args.output_file`` also where a signal ends the benchmark.
        on_gpu: whether the trainings run on a GPU.

    Returns:
        Whether all of it went well.
    """
    from benchmarks.train_step import CANDIDATES, installed

    if name == "smoke":
        command = [sys.executable, "-m", "benchmarks.smoke"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        if done.returncode == 0:
            note(json.loads(done.stdout.splitlines()[-1]))
        return done.returncode == 0
    module, *arguments = BENCHMARKS[name]
    if name == "losses" and on_gpu:
        arguments = []  # the page shows the growth of a CPU
    if name.startswith("train_step") and on_gpu:
        # A step takes a twentieth of a second on a GPU. To fill a cache for it writes gigabytes to the disk.
        without_cache = [one for one in CANDIDATES if one != "itrd_cached" and installed(one)]
        arguments += ["--steps", "24", "--candidates", *without_cache]
    if args.rounds is not None and name not in WITHOUT_TURNS + SHORT_TURNS:
        arguments += ["--rounds", str(args.rounds)]
    if name == "decoding" and args.utils_qa is not None:
        arguments += ["--utils_qa", str(Path(args.utils_qa).resolve())]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        code = None
        try:
            code = run_group([*command, "--output", str(output)])
        finally:
            if output.exists() and (code is not None or args.output_file is not None):
                found = json.loads(output.read_text())
                for option in ("output", "worker", "utils_qa"):
                    found.get("arguments", {}).pop(option, None)
                note(found)
        return code == 0 and output.exists()


def run_group(command: list[str]) -> int:
    """Run a command and return its exit code. Where a signal ends this process, its children end with it."""
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def leave(*_: object) -> None:
    """Take SIGTERM, once: `timeout` may send it to this process and then to its group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def measure_all(
    args: BenchArguments, precision: str, results: dict[str, dict[str, Any]], target: Path
) -> list[str]:
    """Run the benchmarks of ``args``, and write ``results`` into ``target`` after each.

    Returns:
        The names of those that failed, all or in part.
    """
    from itrd_nlp.files import write_json

    failed = []
    before = signal.signal(signal.SIGTERM, leave)
    try:
        for name in args.only or [*BENCHMARKS, "smoke"]:
            print(f"== {name} ({precision})", flush=True)

            def note(found: dict[str, Any], name: str = name) -> None:
                results.setdefault(precision, {})[name] = found
                write_json(target, results)

            if not measure(name, args, note, on_gpu=precision.startswith("cuda")):
                failed.append(name)
    finally:
        signal.signal(signal.SIGTERM, before)
    return failed


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Read results by precision.

    Raises:
        UserError: the file holds something else.
    """
    from itrd_nlp.errors import UserError

    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no JSON file of --output_file: {error}.") from error
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        raise UserError(f"{path} holds no results by precision, as --output_file writes them.")
    return found


def main() -> None:
    (args,) = parser.parse([BenchArguments], description=__doc__)
    from benchmarks.page import write_page
    from benchmarks.training import training_precision
    from itrd_nlp.errors import UserError
    from itrd_nlp.files import write_json

    if args.output_file is not None and (args.merge or args.page_only):
        raise UserError("--output_file is for a measurement; leave out --merge and --page_only.")
    target = RESULTS if args.output_file is None else Path(args.output_file)
    results = read_results(target) if target.exists() else {}
    failed: list[str] = []
    if args.merge:
        for other in [read_results(Path(path)) for path in args.merge]:
            for precision, found in other.items():
                results.setdefault(precision, {}).update(found)
        write_json(RESULTS, results)
    elif not args.page_only:
        failed = measure_all(args, training_precision(), results, target)
    if args.output_file is None:
        write_page(results, ROOT / "docs")
    if failed:
        raise UserError(f"these benchmarks failed, all or in part: {', '.join(failed)}.")


if __name__ == "__main__":
    # Python puts the folder of this file first, where it would find profile.py instead of its own
    # module. The root of the repository makes `benchmarks` importable.
    sys.path[0] = str(ROOT)
    process.run(main)
