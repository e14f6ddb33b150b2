"""Answer questions about texts, or label texts, with a trained model.

    itrd-nlp predict --model runs/my_student --question "Who?" --context "It was Ada."
    itrd-nlp predict --model runs/my_student --input assets/squad/dev-v1.1.json --output answers.jsonl
    produce_questions | itrd-nlp predict --model runs/my_student --input - | consume_answers

Input is SQuAD's format if its name ends in .json, else JSON lines such as {"question": "Who?", "context": "It was
Ada."}, with or without an id. For each question one JSON object is written in a line: id, question, answer, score
(between 0 and 1), start and end (characters of the context); or answers, a list, with --top_k above 1. Memory does not
grow with the number of lines.
"""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from itrd_nlp.cli.jobs import TaskArguments, asked_name, asked_task
from itrd_nlp.cli.local_paths import arguments_of, check_local_paths
from itrd_nlp.cli.parser import answer_help, parse
from itrd_nlp.errors import UserError
from itrd_nlp.models.options import DTYPES, LoadingArguments
from itrd_nlp.tasks import options_of
from itrd_nlp.training.output_paths import check_target_file
from itrd_nlp.training.ranges import BATCH
from itrd_nlp.training.roles import Metadata


@dataclass
class PredictionArguments:
    """The model, its input and its output."""

    model: str = field(
        metadata={
            "help": "Folder, ONNX folder or model id. A model with a results.json reads texts of the length that it "
            "was trained with, unless max_length is given. A masked LM reads up to 512 tokens."
        }
    )
    input: str | None = field(
        default=None,
        metadata={"help": "File of questions, in SQuAD's JSON or as JSON lines; - is stdin."},
    )
    output: str = field(default="-", metadata={"help": "File for the answers; - is stdout."})
    batch_size: int | None = field(
        default=None,
        metadata=Metadata(
            help="Windows at a time. Default: 16, or 1 for stdin, so that each line is answered at once.",
            range=BATCH,
        ),
    )
    dtype: str = field(
        default="float32",
        metadata={"help": "Cast the weights.", "choices": DTYPES},
    )
    device: str | None = field(
        default=None,
        metadata={"help": "Device, such as cpu or cuda:1. Default: the first accelerator."},
    )


def main() -> None:
    _, answers_of_task = options_of(asked_name(sys.argv[1:]))
    own = [TaskArguments, PredictionArguments, answers_of_task, LoadingArguments]
    answer_help(own, __doc__)
    from tqdm import tqdm

    from itrd_nlp.tasks.jobs.predict import predict

    task = asked_task(sys.argv[1:], model_option="model")
    groups = (TaskArguments, PredictionArguments, task.answer_arguments, LoadingArguments)
    _, args, options, loading = parse(groups, description=__doc__)
    check_local_paths(arguments_of([args]))
    target = args.output
    if target != "-":
        target = str(check_target_file(target, option="output", inputs=[args.model, args.input]))
    answers = predict(
        task,
        args.model,
        args.input,
        options,
        loading=loading,
        device=args.device,
        dtype=args.dtype,
        batch_size=args.batch_size,
    )
    refused: UserError | None = None
    with _writing(target) as file:
        # Shown where somebody looks (None asks tqdm), but not among the answers themselves.
        hidden = True if file.isatty() else None
        written = 0
        try:
            for record in tqdm(answers, unit=f" {task.page.unit}", delay=1, disable=hidden):
                file.write(_line(record))
                file.flush()
                written += 1
        except UserError as error:  # about lines: the answers to the others are kept
            if not written:
                raise
            refused = error
    if refused is not None:
        kept = f"{written} answer{'s' if written > 1 else ''}"
        raise UserError(f"{refused} {_shown(args.output)} has {kept}.")


def _line(record: dict[str, Any]) -> str:
    """A record as a line of JSON, readable where all of it is text."""
    line = json.dumps(record, ensure_ascii=False)
    with contextlib.suppress(UnicodeEncodeError):
        line.encode()
        return line + "\n"
    # Half of a surrogate pair, which an id may have, stays escaped.
    return json.dumps(record) + "\n"


def _shown(output: str) -> str:
    return "stdout" if output == "-" else output


@contextlib.contextmanager
def _writing(output: str) -> Iterator[IO[str]]:
    """Stdout, or a file that is under its name only when it is complete."""
    from itrd_nlp.files import replacing, writing

    if output == "-":
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        return
    path = Path(output)
    with writing(path), replacing(path) as file:
        yield file
