"""Make queries with passages, and pairs of questions, of SQuAD 1.1, as JSON lines.

    itrd-nlp make-ranking-data --output_dir assets/ranking

ranking-{train,dev}.jsonl: a question, its own paragraph, which has the label 1, and other paragraphs of its article.
The tasks reranking and embedding read both files.
pairs-{train,dev}.jsonl: two questions, and their score: 1 for one paragraph, 0.5 for one article, 0 for two articles.
The task sentence-similarity reads both files.
Articles of SQuAD's train file are not in its dev file.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from itrd_nlp.cli.parser import parse
from itrd_nlp.training.ranges import COUNT, Range
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
    output_dir: str = field(default="assets/ranking", metadata={"help": "Folder of the new files."})
    max_samples: int | None = field(
        default=20_000,
        metadata=Metadata(
            help="Questions of each file, drawn at random. All of them make files of 1 GB.",
            range=COUNT,
        ),
    )
    max_passages: int = field(
        default=10,
        metadata=Metadata(
            help="Passages of a question: its own, and those that share most words with it.",
            range=Range(least=2, most=2**20, whole=True),
        ),
    )


def main() -> None:
    (args,) = parse([MakeArguments], description=__doc__)
    from itrd_nlp.tasks.embedding.from_squad import similarity_rows
    from itrd_nlp.tasks.lines import write_rows
    from itrd_nlp.tasks.question_answering import read_squad
    from itrd_nlp.tasks.reranking.from_squad import articles, ranking_rows
    from itrd_nlp.training.output_paths import check_target_file, holds_rows, made_folder

    folder = made_folder(args.output_dir, option="output_dir")
    sources: tuple[tuple[Literal["train", "validation"], str, str], ...] = (
        ("train", "train", args.train_file),
        ("validation", "dev", args.validation_file),
    )
    targets = {
        (kind, name): check_target_file(
            folder / f"{kind}-{name}.jsonl",
            option="output_dir",
            inputs=[args.train_file, args.validation_file],
            ours=holds_rows(key),
        )
        for _, name, _ in sources
        for kind, key in (("ranking", "passages"), ("pairs", "text_pair"))
    }
    files: dict[Path, Iterable[dict[str, Any]]] = {}
    totals: dict[Path, int] = {}
    for split, name, source in sources:
        everything = read_squad(source, split=split)
        paragraphs = articles(everything.to_list())
        # Neighbours are of one article, so that the first so many rows would be of few.
        examples = everything.shuffle(seed=0).to_list()[: args.max_samples]
        queries, pairs = targets["ranking", name], targets["pairs", name]
        files[queries] = ranking_rows(examples, paragraphs, most=args.max_passages)
        files[pairs] = similarity_rows(examples)
        totals |= {queries: len(examples), pairs: len(examples)}
    write_rows(files, totals)
