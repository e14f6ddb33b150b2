"""Ask the questions of SQuAD about other contexts of their article: more to distil on, without answers.

    itrd-nlp make-unlabelled-questions --output_file assets/elsewhere.json --per_question 3

The file is for unlabelled_file of train-squad, where the teacher alone says what is right.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli.parser import parse
from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import COUNT, SEED
from itrd_nlp.training.roles import Metadata


@dataclass
class MakeArguments:
    """The questions, their number, and the new file."""

    output_file: str = field(metadata={"help": "The JSON file to write, in the form of SQuAD's."})
    source_file: str = field(
        default="assets/squad/train-v1.1.json",
        metadata={"help": "SQuAD JSON, or a data set of the Hub. Its answers are not read."},
    )
    max_samples: int | None = field(
        default=None,
        metadata=Metadata(
            help="Number of questions, the same that max_train_samples takes. Default: all.",
            range=COUNT,
        ),
    )
    per_question: int = field(
        default=1,
        metadata=Metadata(
            help="Number of contexts of its article that each question is asked about.", range=COUNT
        ),
    )
    seed: int = field(
        default=0,
        metadata=Metadata(
            help="Seed of both draws. Give the training the same as its data_subset_seed.",
            range=SEED,
        ),
    )


def main() -> None:
    (args,) = parse([MakeArguments], description=__doc__)
    from itrd_nlp.files import write_json
    from itrd_nlp.tasks.question_answering import read_squad
    from itrd_nlp.tasks.question_answering.augmentation import ask_elsewhere, squad_json
    from itrd_nlp.training.output_paths import check_writable

    path = Path(args.output_file)
    if os.path.lexists(path):  # a link that leads nowhere, too
        raise UserError(f"output_file {path} exists, and is not overwritten: name another.")
    check_writable(path.parent, option="output_file")
    examples = read_squad(
        args.source_file,
        split="train",
        max_samples=args.max_samples,
        seed=args.seed,
        answers=False,
    )
    rows = ask_elsewhere(examples, per_question=args.per_question, seed=args.seed)
    if not rows:
        raise UserError(
            f"{args.source_file}: no article has two contexts, so that its questions could be asked elsewhere."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, squad_json(rows))
    print(f"{path}: {len(rows)} questions without answers, of {len(examples)}")
