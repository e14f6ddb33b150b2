"""Count the padding of an epoch: batches grouped by length, batches drawn at random, and all windows padded to 384.

    python -m benchmarks.padding [--output benchmarks/padding.json]

The share is padded positions over tokens, in the first windows of SQuAD's train set. Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.cli import parser, process

LONGEST = 384


@dataclass
class PaddingArguments:
    """Options of this command."""

    windows: int = field(default=20_000, metadata={"help": "Number of windows."})
    batch_sizes: list[int] = field(
        default_factory=lambda: [8, 32], metadata={"help": "Windows of a batch."}
    )
    output: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )


def padding_share(
    lengths: NDArray[np.int64], order: NDArray[np.int64], batch_size: int, multiple: int
) -> float:
    """Divide the padded positions of an epoch by its tokens.

    Args:
        lengths: tokens of each window.
        order: the windows in the order of an epoch.
        batch_size: windows of a batch.
        multiple: a batch is padded to a multiple of this length.
    """
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    longest = [-(-int(lengths[batch].max()) // multiple) * multiple for batch in batches]
    positions = sum(len(batch) * size for batch, size in zip(batches, longest, strict=True))
    tokens = int(lengths.sum())
    return (positions - tokens) / tokens


def measure(lengths: NDArray[np.int64], batch_size: int) -> dict[str, float]:
    """The share of padding of each order, in percent."""
    from itrd_nlp.training.sampler import LengthGroupedSampler

    grouped = np.array(list(LengthGroupedSampler(lengths.tolist(), batch_size, seed=0)))
    drawn = np.random.default_rng(0).permutation(len(lengths))
    shares = {
        "grouped by length": padding_share(lengths, grouped, batch_size, 8),
        "grouped by length, not to a multiple of 8": padding_share(lengths, grouped, batch_size, 1),
        "drawn at random": padding_share(lengths, drawn, batch_size, 8),
        f"padded to {LONGEST}": float(LONGEST * len(lengths) / lengths.sum() - 1),
    }
    return {name: 100 * share for name, share in shares.items()}


def main() -> None:
    (args,) = parser.parse([PaddingArguments], description=__doc__)
    from rich.console import Console
    from rich.table import Table

    from benchmarks.windows import TOKENIZER, TRAIN_FILE
    from itrd_nlp.files import write_json
    from itrd_nlp.models.loading import load_tokenizer
    from itrd_nlp.models.options import LoadingArguments
    from itrd_nlp.tasks.question_answering import read_squad, training_features
    from itrd_nlp.training.results import environment

    tokenizer = load_tokenizer(TOKENIZER, LoadingArguments())
    examples = read_squad(TRAIN_FILE, split="train", max_samples=args.windows)
    windows = training_features(examples, tokenizer).select(range(args.windows))
    lengths = np.array(windows["length"][:])
    shares = {f"batch {size}": measure(lengths, size) for size in args.batch_sizes}
    table = Table("padding, % of the tokens", *shares)
    for name in next(iter(shares.values())):
        table.add_row(name, *(f"{found[name]:.1f}" for found in shares.values()))
    Console().print(table)
    if args.output is not None:
        content = {"windows": args.windows, "tokens of a window": float(lengths.mean())}
        write_json(Path(args.output), content | {"shares": shares, "environment": environment()})


if __name__ == "__main__":
    process.run(main)
