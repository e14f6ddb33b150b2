"""Answer questions about texts with a trained model.

    python scripts/predict.py --model runs/my_student --question "Who?" --context "It was Ada."
    python scripts/predict.py --model runs/my_student --input assets/squad/dev-v1.1.json --output answers.jsonl
    produce_questions | python scripts/predict.py --model runs/my_student --input - | consume_answers

Input is SQuAD's format if its name ends in .json, else JSON lines such as {"question": "Who?", "context": "It was
Ada."}, with or without an id. For each question one JSON object is written in a line: id, question, answer, score
(between 0 and 1), start and end (characters of the context); or answers, a list, with --top_k above 1. Memory does not
grow with the number of lines.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from itrd_nlp.cli.parser import parse
from itrd_nlp.errors import UserError


@dataclass
class PredictionArguments:
    """What answers what."""

    model: str = field(metadata={"help": "Folder, ONNX folder or model id."})
    question: str | None = field(default=None, metadata={"help": "One question."})
    context: str | None = field(default=None, metadata={"help": "The text that has its answer."})
    input: str | None = field(
        default=None, metadata={"help": "Questions: SQuAD's JSON, JSON lines, or - for stdin."}
    )
    output: str = field(default="-", metadata={"help": "Where the answers go; - is stdout."})
    batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Windows at a time; default: 16, but 1 from stdin, so that each line is answered at once."
        },
    )
    dtype: str = field(
        default="float32",
        metadata={"help": "Cast the weights.", "choices": ["float32", "bfloat16", "float16"]},
    )
    device: str | None = field(
        default=None, metadata={"help": "Such as cpu or cuda:1; default: the first accelerator."}
    )


@dataclass
class AnswerArguments:
    """Which answers."""

    top_k: int = field(default=1, metadata={"help": "Answers per question."})
    max_answer_length: int = field(default=30, metadata={"help": "Longest answer, in tokens."})
    max_length: int | None = field(
        default=None,
        metadata={"help": "Tokens of a window; default: 384, or less if the model takes less."},
    )
    doc_stride: int | None = field(
        default=None,
        metadata={
            "help": "Tokens that two windows of a context have in common; default: a third of the window, at most 128."
        },
    )
    handle_impossible_answer: bool = field(
        default=False,
        metadata={
            "help": 'Answer "" where no answer is likelier than any, for a model trained with such questions.'
        },
    )


def main() -> None:
    from tqdm import tqdm

    from itrd_nlp.models.loading import LoadingArguments
    from itrd_nlp.tasks.question_answering.pipeline import load_pipeline
    from itrd_nlp.tasks.question_answering.prediction import Question, predict, read_questions

    groups = (PredictionArguments, AnswerArguments, LoadingArguments)
    args, answers, loading = parse(groups, description=__doc__)
    pair = (args.question is not None, args.context is not None)
    if pair != (args.input is None, args.input is None):
        raise UserError("give either --question and --context or --input.")
    if args.input is None:
        row = {"question": args.question, "context": args.context}
        questions = iter([Question("--question", row)])
    else:
        questions = read_questions(args.input)
    if args.output != "-" and not Path(args.output).parent.is_dir():
        raise UserError(f"output {args.output}: there is no folder {Path(args.output).parent}.")
    if args.batch_size is None:
        args.batch_size = 1 if args.input == "-" else 16
    qa = load_pipeline(
        args.model,
        loading=loading,
        device=args.device,
        dtype=args.dtype,
        batch_size=args.batch_size,
        top_k=answers.top_k,
        max_answer_len=answers.max_answer_length,
        max_length=answers.max_length,
        doc_stride=answers.doc_stride,
        handle_impossible_answer=answers.handle_impossible_answer,
    )
    with _writing(args.output) as file:
        # Shown where somebody looks (None asks tqdm), but not among the answers themselves.
        hidden = True if file.isatty() else None
        for record in tqdm(predict(qa, questions), unit=" questions", delay=1, disable=hidden):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()


@contextlib.contextmanager
def _writing(output: str) -> Iterator[TextIO]:
    """Stdout, or a file that is under its name only when it is complete."""
    from itrd_nlp.files import writing

    if output == "-":
        sys.stdout.reconfigure(encoding="utf-8")
        try:
            yield sys.stdout
        except BrokenPipeError:  # such as `| head`, which has what it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    path = Path(output)
    if path.is_dir():
        raise UserError(f"output {output} is a folder, but must be a file.")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with writing(path), temporary.open("w", encoding="utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
