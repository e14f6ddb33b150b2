"""Compare whole training steps on SQuAD with ITRD, with KD alone and with TextBrewer, in windows per second.

    python -m benchmarks.train_step [--shape bert|minilm] [--student_layers 6] [--rounds 5] [--output FILE]

Teacher and student have random weights, because training does not change the speed. The windows come from SQuAD, in
batches grouped by length as in an epoch. The candidates:

| candidate | training |
|---|---|
| itrd | `ITRDTrainer` in bf16 without dropout |
| kd | `ITRDTrainer` with only the task loss and KD |
| textbrewer | TextBrewer's `GeneralDistiller` as in its SQuAD notebook (length 384, batch 8, fp32, dropout 0.1, MMD) |
| textbrewer_tuned | the same distiller and losses with what is equal for all, see below |
| modelopt | NVIDIA ModelOpt's `distill` on every mapped layer and the logits, with what is equal for all |
| itrd_cached | `ITRDTrainer` with a teacher cache that an earlier run has filled |

Equal for all candidates but `textbrewer` are the batches, bf16 autocast, no dropout, fused AdamW and a teacher whose
weights are in bf16. The candidates of this package use `fast` attention. The peers use the faster attention of
transformers: sdpa in fp32 and on a GPU, and eager in bf16 on a CPU. They are measured where they are installed
(`pip install textbrewer nvidia-modelopt`).
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Runs, median, ratio, take_turns_without_the_failed
from itrd_nlp.cli import parser, process
from itrd_nlp.errors import UserError

if TYPE_CHECKING:
    from benchmarks.training import Clock

CANDIDATES = ("itrd", "kd", "textbrewer", "textbrewer_tuned", "modelopt", "itrd_cached")
"""In the order of a turn. The cache comes last: it must be filled first, which takes longest where a step is short."""
PEERS = {"textbrewer": "textbrewer", "modelopt": "nvidia-modelopt"}
"""From modules that need not be installed, by which their candidates are named, to the names by which pip installs."""
RATIOS = (
    ("itrd", "textbrewer"),
    ("itrd", "textbrewer_tuned"),
    ("itrd", "modelopt"),
    ("itrd_cached", "itrd"),
    ("kd", "itrd"),
)


def installed(candidate: str) -> bool:
    """Tell whether a candidate can be measured here."""
    module = candidate.partition("_")[0]
    return module not in PEERS or importlib.util.find_spec(module) is not None


@dataclass
class TrainStepArguments:
    """Options of this command."""

    shape: str = field(
        default="bert",
        metadata={"help": "Size of the teacher.", "choices": ["minilm", "bert"]},
    )
    student_layers: int = field(default=6, metadata={"help": "Layers of the student."})
    batch_size: int = field(
        default=32, metadata={"help": "Windows of a step. TextBrewer's notebook has 8."}
    )
    steps: int = field(
        default=4, metadata={"help": "Timed steps in a process, after one step to warm up."}
    )
    rounds: int = field(default=3, metadata={"help": "Processes for each candidate."})
    candidates: list[str] = field(
        default_factory=lambda: [name for name in CANDIDATES if installed(name)],
        metadata={
            "help": "Measure these candidates. Default: all that are installed.",
            "choices": list(CANDIDATES),
        },
    )
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )
    worker: str | None = field(
        default=None,
        metadata={
            "help": "Measure only this candidate, in this process.",
            "choices": list(CANDIDATES),
        },
    )


def timed_training(args: TrainStepArguments) -> Callable[..., Clock]:
    """Return a function that trains a new student on some batches. The function takes further training arguments."""
    from benchmarks.training import train
    from benchmarks.windows import squad_batches
    from itrd_nlp.tasks.question_answering import QuestionAnsweringCollator

    windows, tokenizer = squad_batches(args.batch_size, args.steps)
    return partial(
        train,
        args.shape,
        args.student_layers,
        windows,
        QuestionAnsweringCollator(tokenizer),
        num_train_epochs=1,
        per_device_train_batch_size=args.batch_size,
        train_sampling_strategy="sequential",
    )


def train_once(args: TrainStepArguments, objective: dict[str, Any]) -> None:
    """Train a student on all batches."""
    timed_training(args)(max_steps=-1, **objective)


def measure_ours(args: TrainStepArguments, candidate: str) -> dict[str, float]:
    """Train twice on the batches, and time the second training.

    The cache is filled in a process of its own, whose memory is not that of reading it.
    """
    from benchmarks.training import device, forget_warm_up

    train = timed_training(args)
    with tempfile.TemporaryDirectory() as folder:
        objective: dict[str, Any] = {"beta_corr": 0.0, "beta_mi": 0.0} if candidate == "kd" else {}
        if candidate == "itrd_cached":
            objective = {"teacher_cache": "on", "teacher_cache_dir": folder}
            filling = multiprocessing.get_context("spawn").Process(
                target=train_once, args=(args, objective)
            )
            filling.start()
            filling.join()
            if filling.exitcode != 0:
                raise RuntimeError(f"the cache was not filled: exit code {filling.exitcode}")
        # A GPU allocates memory and loads kernels for the shape of each batch.
        train(max_steps=-1 if device().type == "cuda" else 1, **objective)
        forget_warm_up()
        clock = train(wait_each_step=False, **objective)
    # A step lasts from the end of the previous one to its own, so it includes fetching the batch.
    times = itertools.pairwise([clock.train_began, *clock.ended])
    return figures([after - before for before, after in times], args.batch_size)


def measure_textbrewer(args: TrainStepArguments, tuned: bool) -> dict[str, float]:
    """Train on the same windows with TextBrewer, after a step to warm up."""
    import torch

    from benchmarks.peers.textbrewer_squad import seconds_per_step
    from benchmarks.training import device, forget_warm_up, random_models, training_dtype
    from benchmarks.windows import squad_batches
    from itrd_nlp.tasks.question_answering import QuestionAnsweringCollator

    batch_size = args.batch_size if tuned else 8  # notebook
    windows, tokenizer = squad_batches(batch_size, args.steps)
    collate = QuestionAnsweringCollator(tokenizer, pad_to_multiple_of=8 if tuned else 384)
    columns = ["input_ids", "token_type_ids", "start_positions", "end_positions"]
    rows = windows.select_columns(columns).to_list()
    batches = [collate(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    bf16 = tuned and training_dtype() == torch.bfloat16  # the precision of our own training
    dropout = 0.0 if tuned else 0.1  # bert_config_L3.json
    on_gpu = device().type == "cuda"
    teacher, student = random_models(
        args.shape, args.student_layers, dropout, attention_of_peers(bf16=bf16)
    )
    teacher.eval().to(device(), torch.bfloat16 if bf16 else torch.float32)
    student.to(device())
    with tempfile.TemporaryDirectory() as folder:
        for part in (batches if on_gpu else batches[:1], batches):
            forget_warm_up()
            seconds = seconds_per_step(teacher, student, part, Path(folder), bf16=bf16, fused=tuned)
    return figures(seconds, batch_size)


def measure_modelopt(args: TrainStepArguments) -> dict[str, float]:
    """Train on the same windows with ModelOpt, after a step to warm up; on a GPU after all of them."""
    import torch
    from datasets import concatenate_datasets

    from benchmarks.peers import modelopt_squad
    from benchmarks.training import device, random_models, training_dtype
    from benchmarks.windows import squad_batches
    from itrd_nlp.tasks.question_answering import QuestionAnsweringCollator

    windows, tokenizer = squad_batches(args.batch_size, args.steps)
    bf16 = training_dtype() == torch.bfloat16
    warm_up = args.steps if device().type == "cuda" else 1
    first = windows.select(range(warm_up * args.batch_size))
    clock = modelopt_squad.train(
        *random_models(args.shape, args.student_layers, 0.0, attention_of_peers(bf16=bf16)),
        concatenate_datasets([first, windows]),
        QuestionAnsweringCollator(tokenizer),
        bf16=bf16,
        warm_up=warm_up,
        num_train_epochs=1,
        per_device_train_batch_size=args.batch_size,
        train_sampling_strategy="sequential",
    )
    times = itertools.pairwise(clock.ended[warm_up - 1 :])
    return figures([after - before for before, after in times], args.batch_size)


def attention_of_peers(*, bf16: bool) -> str:
    """Return the faster of the two attentions of transformers on this machine."""
    from benchmarks.training import device

    return "eager" if bf16 and device().type == "cpu" else "sdpa"


def figures(seconds: list[float], batch_size: int) -> dict[str, float]:
    """Return the windows per second, the seconds of a step and the peak memory in megabytes.

    The seconds of a step are the median. On a GPU, which only begin and end wait for, they are the mean.
    """
    from benchmarks.training import device, peak_megabytes

    of_step = statistics.mean if device().type == "cuda" else statistics.median
    return {
        "windows_per_second": batch_size * len(seconds) / sum(seconds),
        "seconds_per_step": of_step(seconds),
        "peak_megabytes": peak_megabytes(),
    }


def measure(args: TrainStepArguments, candidate: str) -> dict[str, float]:
    """Measure one candidate in this process.

    Raises:
        UserError: it is not installed.
    """
    if not installed(candidate):
        package = PEERS[candidate.partition("_")[0]]
        raise UserError(f"{candidate} needs a package; run pip install {package}.")
    if candidate == "modelopt":
        return measure_modelopt(args)
    if candidate.startswith("textbrewer"):
        return measure_textbrewer(args, tuned=candidate == "textbrewer_tuned")
    return measure_ours(args, candidate)


def ratios_of(runs: Runs) -> dict[str, Any]:
    """Return the ratios of `RATIOS` whose candidates both have figures."""
    return {
        f"{a} / {b}": ratio(runs[a], runs[b], "windows_per_second")
        for a, b in RATIOS
        if a in runs and b in runs
    }


def main() -> None:
    (args,) = parser.parse([TrainStepArguments], description=__doc__)
    if args.worker is not None:
        print(json.dumps(measure(args, args.worker)))
        return
    from rich.console import Console
    from rich.table import Table

    from itrd_nlp.files import write_json
    from itrd_nlp.training.results import environment

    workers = {name: [*sys.argv[1:], "--worker", name] for name in args.candidates}
    runs: Runs = {}

    def note(found: Runs) -> None:
        runs.update(found)
        if args.output is not None:
            content = {"arguments": vars(args), "ratios": ratios_of(runs), "runs": runs}
            write_json(Path(args.output), content | {"environment": environment()})

    failed = take_turns_without_the_failed("train_step", workers, args.rounds, after_each=note)
    table = Table(
        title=f"{args.shape}, student of {args.student_layers} layers, median of {args.rounds}"
    )
    for column in ("", "windows/s", "MB"):
        table.add_column(column, justify="right")
    for name, runs_of_one in runs.items():
        table.add_row(
            name,
            f"{median(runs_of_one, 'windows_per_second'):.2f}",
            f"{median(runs_of_one, 'peak_megabytes'):.0f}",
        )
    for name, found_ratio in ratios_of(runs).items():
        table.add_row(
            name,
            f"x {found_ratio['median']:.2f}",
            f"{found_ratio['least']:.2f} to {found_ratio['most']:.2f}",
        )
    Console().print(table)
    if failed:
        raise UserError(f"these measurements failed, see above: {', '.join(failed)}.")


if __name__ == "__main__":
    process.run(main)
