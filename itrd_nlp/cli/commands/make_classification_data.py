"""Make three classification data sets of SQuAD 1.1, as JSON lines.

    itrd-nlp make-classification-data --output_dir assets/classification

sentences-{train,dev}.jsonl: does the sentence hold the answer to the question? punctuation-{train,dev}.jsonl: which
mark follows a word? names-{train,dev}.jsonl: which words are a name? All in the form that train-classifier and
distil-classifier read.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from itrd_nlp.cli.parser import parse
from itrd_nlp.training.ranges import COUNT
from itrd_nlp.training.roles import Metadata


@dataclass
class MakeArguments:
    """The files of SQuAD, and the folder for the new files."""

    train_file: str = field(
        default="assets/squad/train-v1.1.json", metadata={"help": "SQuAD 1.1 JSON to train on."}
    )
    validation_file: str = field(
        default="assets/squad/dev-v1.1.json", metadata={"help": "SQuAD 1.1 JSON to evaluate on."}
    )
    output_dir: str = field(
        default="assets/classification", metadata={"help": "Folder of the six files."}
    )
    max_samples: int | None = field(
        default=None,
        metadata=Metadata(
            help="Questions of each file, drawn at random. Default: all.", range=COUNT
        ),
    )


def main() -> None:
    (args,) = parse([MakeArguments], description=__doc__)
    from itrd_nlp.tasks.classification import name_spans, punctuation_marks, sentence_pairs
    from itrd_nlp.tasks.lines import write_rows
    from itrd_nlp.tasks.question_answering import read_squad
    from itrd_nlp.training.output_paths import check_target_file, holds_rows, made_folder

    folder = made_folder(args.output_dir, option="output_dir")
    sets: dict[str, Callable[[list[dict[str, Any]]], Iterable[dict[str, Any]]]] = {
        "sentences": sentence_pairs,
        "punctuation": punctuation_marks,
        "names": name_spans,
    }
    targets = {
        (task, name): check_target_file(
            folder / f"{task}-{name}.jsonl",
            option="output_dir",
            inputs=[args.train_file, args.validation_file],
            ours=holds_rows("label", "labels"),
        )
        for task, name in itertools.product(sets, ("train", "dev"))
    }
    sources: tuple[tuple[Literal["train", "validation"], str, str], ...] = (
        ("train", "train", args.train_file),
        ("validation", "dev", args.validation_file),
    )
    files = {}
    for split, name, source in sources:
        examples = read_squad(source, split=split, max_samples=args.max_samples).to_list()
        for task, make in sets.items():
            files[targets[task, name]] = make(examples)
    write_rows(files)
