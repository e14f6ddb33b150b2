"""Make plain text of the paragraphs of SQuAD 1.1, as JSON lines.

    itrd-nlp make-plain-text --output_dir assets/plain_text

text-{train,dev}.jsonl: a paragraph and its article. The tasks masked-lm and encoder read both files. Both come from
SQuAD's training file, so that a model which has read them is still judged on questions about unknown text. Articles of
the one are not in the other.
"""

from dataclasses import dataclass, field

from itrd_nlp.cli.parser import parse
from itrd_nlp.training.ranges import COUNT, Range
from itrd_nlp.training.roles import Metadata


@dataclass
class MakeArguments:
    """The file of SQuAD, and the folder for the new files."""

    train_file: str = field(
        default="assets/squad/train-v1.1.json", metadata={"help": "SQuAD 1.1 JSON."}
    )
    output_dir: str = field(
        default="assets/plain_text", metadata={"help": "Folder of the new files."}
    )
    held_out: float = field(
        default=0.05,
        metadata=Metadata(
            help="Share of the articles to evaluate on, drawn at random. Where that is less than one article: share of "
            "the paragraphs.",
            range=Range(least=0.001, most=0.5),
        ),
    )
    max_samples: int | None = field(
        default=None,
        metadata=Metadata(
            help="Largest number of paragraphs in each file. Default: all.", range=COUNT
        ),
    )


def main() -> None:
    (args,) = parse([MakeArguments], description=__doc__)
    from itrd_nlp.tasks.lines import write_rows
    from itrd_nlp.tasks.masked_lm.from_squad import text_rows
    from itrd_nlp.tasks.question_answering import read_squad
    from itrd_nlp.tasks.reranking.from_squad import articles
    from itrd_nlp.training.output_paths import check_target_file, holds_rows, made_folder

    folder = made_folder(args.output_dir, option="output_dir")
    files = [
        check_target_file(
            folder / f"text-{name}.jsonl",
            option="output_dir",
            inputs=[args.train_file],
            ours=holds_rows("text", "source"),
        )
        for name in ("train", "dev")
    ]
    paragraphs = articles(read_squad(args.train_file, split="train").to_list())
    made = text_rows(paragraphs, held_out=args.held_out)
    write_rows({path: rows[: args.max_samples] for path, rows in zip(files, made, strict=True)})
