"""Fetch SQuAD and MiniLM-L6, fine-tune a small teacher, and distil a student of 3 layers from it.

    itrd-nlp quickstart
    itrd-nlp quickstart --assets_dir ~/assets --output_dir runs/second

It takes 3 minutes on two CPU cores with bf16 and 10 minutes on two older ones, and downloads 160 MB from PyPI before.
The same command, given again, goes on where an earlier one stopped. It calls train-teacher and train-squad with the
configs quickstart_teacher and quickstart, and shows each call. All of it runs on the CPU, so that its scores are those
of the README.
"""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli.parser import parse
from itrd_nlp.cli.process import command_line
from itrd_nlp.files import open_file
from itrd_nlp.tasks.offline_assets import ASSETS, fetch
from itrd_nlp.training.children import run_child
from itrd_nlp.training.output_paths import check_writable
from itrd_nlp.training.ranges import COUNT
from itrd_nlp.training.roles import Metadata

ASSETS_DIR, OUTPUT_DIR = "assets", "runs/quickstart"
SAMPLES = {"max_train_samples": 2000, "max_eval_samples": 1000}
"""The values of the two configs. A call with these values adds no option to them."""


@dataclass
class QuickstartArguments:
    """Folders, data and their size."""

    output_dir: str = field(
        default=OUTPUT_DIR, metadata={"help": "Folder that takes teacher and student."}
    )
    assets_dir: str = field(
        default=ASSETS_DIR,
        metadata={"help": "Folder that has, or gets, SQuAD 1.1 and MiniLM-L6 (160 MB)."},
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Encoder of the teacher. Default: MiniLM-L6."}
    )
    train_file: str | None = field(
        default=None, metadata={"help": "Questions to train on, as SQuAD has them. Default: SQuAD."}
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "Questions to judge by. Default: those of SQuAD."}
    )
    max_train_samples: int = field(
        default=SAMPLES["max_train_samples"],
        metadata=Metadata(help="Number of questions to train on.", range=COUNT),
    )
    max_eval_samples: int = field(
        default=SAMPLES["max_eval_samples"],
        metadata=Metadata(help="Number of questions to judge by.", range=COUNT),
    )


def main() -> None:
    (args,) = parse([QuickstartArguments], description=__doc__)
    _check(args)
    if _usual(args):
        print(
            "The quickstart takes 3 minutes on two CPU cores with bf16, 10 minutes on two older ones.",
            flush=True,
        )
    _fetch(args)
    teacher, student = (os.path.join(args.output_dir, name) for name in ("teacher", "student"))
    data = _data_options(args)
    encoder = _encoder_options(args)
    own = [] if args.output_dir == OUTPUT_DIR else ["--output_dir", teacher]
    _step(
        "2/3 Fine-tune the teacher",
        ["train-teacher", "quickstart_teacher", *encoder, *data, *own],
        teacher,
    )
    if own:
        own = ["--teacher", teacher, "--output_dir", student]
    _step("3/3 Distil the student", ["train-squad", "quickstart", *data, *own], student)


def _usual(args: QuickstartArguments) -> bool:
    """Whether model and sizes are those whose time is known."""
    return args.model_name_or_path is None and all(
        getattr(args, name) == usual for name, usual in SAMPLES.items()
    )


def _check(args: QuickstartArguments) -> None:
    """Refuse what a later step would refuse, before 160 MB are fetched."""
    from itrd_nlp.models.loading import check_model_folder  # imports torch, which --help need not

    if args.model_name_or_path is not None:
        check_model_folder(args.model_name_or_path, "model_name_or_path")
    for file in (args.train_file, args.validation_file):
        if file is not None:
            open_file(file).close()
    check_writable(args.output_dir, option="output_dir")
    if _needed(args):
        check_writable(args.assets_dir, option="assets_dir")


def _needed(args: QuickstartArguments) -> list[str]:
    """The names of the assets that no argument replaces."""
    needed = []
    if args.train_file is None or args.validation_file is None:
        needed.append("squad")
    if args.model_name_or_path is None:
        needed.append("minilm-l6")
    return needed


def _fetch(args: QuickstartArguments) -> None:
    print("\n1/3 Fetch what is missing", flush=True)
    for name in _needed(args):
        folder = Path(args.assets_dir) / name
        print(ASSETS[name].licence, flush=True)
        state = "fetched" if fetch(ASSETS[name], folder) else "already there"
        print(f"{folder}: {state}.", flush=True)


def _data_options(args: QuickstartArguments) -> list[str]:
    """The options that differ from the two configs."""
    squad = os.path.join(args.assets_dir, "squad")
    known = os.path.join(ASSETS_DIR, "squad")
    options = []
    for split in ("train", "validation"):
        name = f"{'dev' if split == 'validation' else split}-v1.1.json"
        file = getattr(args, f"{split}_file") or os.path.join(squad, name)
        if file != os.path.join(known, name):
            options += [f"--{split}_file", file]
    for name, usual in SAMPLES.items():
        if getattr(args, name) != usual:
            options += [f"--{name}", str(getattr(args, name))]
    return options


def _encoder_options(args: QuickstartArguments) -> list[str]:
    usual = os.path.join(ASSETS_DIR, "minilm-l6")
    encoder = args.model_name_or_path or os.path.join(args.assets_dir, "minilm-l6")
    return [] if encoder == usual else ["--model_name_or_path", encoder]


def _step(title: str, words: Sequence[str], folder: str) -> None:
    """Run a command of itrd-nlp in a process of its own, and end with its exit code where it fails.

    Args:
        title: what the step does.
        words: the command and its options.
        folder: its output_dir. A checkpoint that an earlier call has left there is taken up.
    """
    from itrd_nlp.training.checkpoints import checkpoints  # imports torch, which --help need not

    words, begun = list(words), bool(checkpoints(Path(folder)))
    if begun:
        words += ["--resume_from_checkpoint", "true"]
    print(f"\n{title}: itrd-nlp {shlex.join(words)}", flush=True)
    # -P: a file of this folder must not take the place of a library.
    command = [sys.executable, "-P", "-m", "itrd_nlp", *words]
    code = run_child(command, {**os.environ, "ACCELERATE_USE_CPU": "true"})
    if code == 0:
        return
    if code < 0:
        print(f"The step was ended by {signal.Signals(-code).name}.", file=sys.stderr)
    if code == 2 and begun:
        # Such as for another train_file. The sentence of the step names options that only the step has.
        print(
            f"The quickstart goes on with what is in {folder}; to start anew, give it another --output_dir.",
            file=sys.stderr,
        )
    if code < 0 or code > 128:
        print(f"The quickstart goes on by the same command: {command_line()}", file=sys.stderr)
    sys.exit(code if code > 0 else 128 - code)
