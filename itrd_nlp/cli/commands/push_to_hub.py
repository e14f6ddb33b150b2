"""Push a student, or a fine-tuned teacher, to the Hugging Face Hub.

    itrd-nlp push-to-hub --model runs/squad_minilm_t3 --repo_id USER/NAME [--private] [--revision BRANCH]
    itrd-nlp push-to-hub --model runs/squad_minilm_t3 --repo_id USER/NAME --dry_run

The model must load and have its metrics in results.json. Configuration, weights, tokenizer, model card and
results.json are pushed, in one commit, and nothing else of the folder. The account is that of `hf auth login` or of
HF_TOKEN; there is no option for a token, which other users of the machine could read.
"""

from dataclasses import dataclass, field

from itrd_nlp.cli.local_paths import arguments_of, check_local_paths
from itrd_nlp.cli.parser import parse


@dataclass
class PushArguments:
    """The model, and its place on the Hub."""

    model: str = field(metadata={"help": "Folder of the model."})
    repo_id: str = field(metadata={"help": "USER/NAME. It is created where it is missing."})
    private: bool = field(
        default=False,
        metadata={"help": "Create the repository for yourself or your organisation alone."},
    )
    revision: str | None = field(
        default=None, metadata={"help": "Branch. It is created where it is missing. Default: main."}
    )
    license: str | None = field(
        default=None,
        metadata={
            "help": "License for the model card, such as apache-2.0. Default: that in the card of --student, else of "
            "the teacher or the encoder."
        },
    )
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "Check the model and show the files and the card. No network and no token are needed."
        },
    )


def main() -> None:
    (args,) = parse([PushArguments], description=__doc__)
    check_local_paths(arguments_of([args]))
    from itrd_nlp.tasks.jobs.push import push_student  # --help does not need it
    from itrd_nlp.training.terminal import print_table

    report = push_student(
        args.model,
        args.repo_id,
        private=args.private,
        revision=args.revision,
        license=args.license,
        dry_run=args.dry_run,
    )
    if args.dry_run:
        print(report.card)
    print_table(
        f"{report.repo_id}, branch {report.revision}",
        [("file", "left"), ("bytes", "right")],
        [[name, f"{size:,}"] for name, size in report.files.items()],
    )
    if args.dry_run:
        print("Nothing was pushed.")
    elif report.changed:
        print(f"Pushed to {report.url}, commit {report.commit}.")
    else:
        print(f"{report.url} has all of it already, as commit {report.commit}.")
