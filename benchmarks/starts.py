"""Compare students of comparisons with each other, over seeds and questions: does a general step help?

    python -m benchmarks.starts docs/results/masked_lm_squad docs/results/masked_lm_squad_1 \
        --reference untrained --output_file docs/results/masked_lm/starts.json

`itrd-nlp compare` has intervals between methods on one student. Here they are between students of one method. Each
folder is a comparison with seeds of its own and the same students.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itrd_nlp.compare.records import Record, Scores, read_records
from itrd_nlp.compare.statistics import mean_and_deviation, paired_bootstrap
from itrd_nlp.errors import UserError
from itrd_nlp.training.record import recorded_metrics


def compared(folders: Sequence[Path], method: str, reference: str) -> dict[str, Any]:
    """The scores of each student over the seeds, and its difference to one of them.

    Args:
        folders: of comparisons that are finished.
        method: the method of every student.
        reference: the student that differences are taken to.

    Raises:
        UserError: there is no such student, a student has other seeds than the reference, two folders have the same
            seed, or they do not have the same examples.
    """
    runs: dict[str, dict[int, tuple[Record, NDArray[np.float64], Scores]]] = {}
    for folder in folders:
        records, scores = read_records(folder)
        for record in records:
            if record["stage"] == "cells" and record["method"] == method:
                seeds = runs.setdefault(record["student"], {})
                if record["seed"] in seeds:
                    raise UserError(
                        f"{folder} has the seed {record['seed']} of {record['student']}, which another folder has, too."
                    )
                main = scores[f"{record['name']}/{main_of(record)}"].astype(np.float64)
                seeds[record["seed"]] = (record, main, scores)
    if reference not in runs:
        raise UserError(f"reference is {reference!r}, but must be one of {', '.join(runs)}.")
    everything = [record for by_seed in runs.values() for record, _, _ in by_seed.values()]
    if len({record["signature"] for record in everything}) > 1:
        raise UserError("the folders have scores of different examples, so they are no pairs.")
    found: dict[str, Any] = {}
    for student, by_seed in runs.items():
        if by_seed.keys() != runs[reference].keys():
            raise UserError(f"{student} has other seeds than {reference}, so they are no pairs.")
        seeds = sorted(by_seed)
        first = by_seed[seeds[0]][0]
        means = {
            name: mean_and_deviation([by_seed[s][0][name] for s in seeds])
            for name in recorded_metrics(first)
        }
        found[student] = {"seeds": seeds, **means}
        if student != reference:
            pairs = np.stack([100 * (by_seed[s][1] - runs[reference][s][1]) for s in seeds])
            sources = by_seed[seeds[0]][2].get(f"{student}/sources")
            found[student]["difference"] = asdict(paired_bootstrap(pairs, sources))
    return {
        "folders": [folder.name for folder in folders],
        "method": method,
        "reference": reference,
        "metric": main_of(first),
        "environment": first.get("environment"),
        "students": found,
    }


def main_of(record: Record) -> str:
    """The main metric of a record. Those of earlier versions, which do not name it, are about questions."""
    return str(record.get("main_metric") or "f1")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--method", default="kd", help="default: %(default)s")
    parser.add_argument("--reference", required=True, help="the student to compare with")
    parser.add_argument("--output_file", type=Path)
    args = parser.parse_args(arguments)
    found = compared(args.folders, args.method, args.reference)
    text = json.dumps(found, indent=2) + "\n"
    if args.output_file is not None:
        args.output_file.parent.mkdir(parents=True, exist_ok=True)
        args.output_file.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
