"""Ask some questions of SQuAD 1.1 about a context that does not answer them, for a data set like SQuAD 2.0.

    itrd-nlp make-answerless-questions --output_dir assets/answerless
    itrd-nlp make-answerless-questions --output_dir assets/mine --train_file train.json --validation_file dev.json

Writes train.json and dev.json in the form of SQuAD 2.0. A drawn share of the questions is asked about another context
of the same article that does not hold the answer. The true SQuAD 2.0, rajpurkar/squad_v2 on the Hub, has questions that
people wrote; they are harder.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli.parser import parse
from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import SEED, Range
from itrd_nlp.training.roles import Metadata


@dataclass
class MakeArguments:
    """The questions, the share that is asked in vain, and the new files."""

    output_dir: str = field(metadata={"help": "Folder for train.json and dev.json."})
    train_file: str = field(
        default="assets/squad/train-v1.1.json",
        metadata={"help": "SQuAD JSON to make train.json of, or a data set of the Hub."},
    )
    validation_file: str = field(
        default="assets/squad/dev-v1.1.json",
        metadata={"help": "SQuAD JSON to make dev.json of, or a data set of the Hub."},
    )
    share: float = field(
        default=0.5,
        metadata=Metadata(
            help="Share of the questions that is asked about a context without the answer.",
            range=Range(least=0, most=1),
        ),
    )
    seed: int = field(default=0, metadata=Metadata(help="Seed of the draws.", range=SEED))


def main() -> None:
    (args,) = parse([MakeArguments], description=__doc__)
    from itrd_nlp.files import write_json, writing
    from itrd_nlp.tasks.question_answering import read_squad
    from itrd_nlp.tasks.question_answering.augmentation import ask_in_vain, squad_json
    from itrd_nlp.training.output_paths import check_writable

    folder = Path(args.output_dir)
    check_writable(folder, option="output_dir")
    sources = {"train.json": args.train_file, "dev.json": args.validation_file}
    for name in sources:
        if os.path.lexists(folder / name):  # a link that leads nowhere, too
            raise UserError(
                f"output_dir has {folder / name} already, which is not overwritten: name another."
            )
    made = {}
    for name, source in sources.items():
        examples = read_squad(source, split="train" if name == "train.json" else "validation")
        rows = made[folder / name] = ask_in_vain(examples, share=args.share, seed=args.seed)
        if args.share and all(row["answers"]["text"] for row in rows):
            raise UserError(
                f"{source}: no drawn question has another context of its article without its answer."
            )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, rows in made.items():
            write_json(path, squad_json(rows))
    for path, rows in made.items():
        without = sum(not row["answers"]["text"] for row in rows)
        print(f"{path}: {len(rows)} questions, {without} of them unanswerable")
