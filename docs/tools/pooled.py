"""Take comparisons together that train the same students with other seeds, each under a teacher of its own.

    python docs/tools/pooled.py --comparisons mpnet_best_rates mpnet_seeds --output_file FILE

`itrd-nlp compare` makes no common row of trainings that had different teachers. A difference to the reference is taken
within one comparison, so both trainings had the same teacher, seed and questions. This tool takes the differences of
all comparisons together, and resamples seeds and articles as the tables do.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from itrd_nlp.cli import parser, process
from itrd_nlp.compare.records import RECORDS_NAME, Record, Scores, read_records
from itrd_nlp.compare.statistics import paired_bootstrap
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json

RESULTS = Path(__file__).parents[1] / "results"
METRICS = ("exact_match", "f1")


@dataclass
class PooledArguments:
    """Options of this command."""

    comparisons: list[str] = field(
        default_factory=list,
        metadata={"help": "Names of folders of docs/results with records of SQuAD."},
    )
    method: str = field(default="itrd", metadata={"help": "The method."})
    reference: str = field(
        default="kd", metadata={"help": "The method that differences are taken to."}
    )
    output_file: str | None = field(
        default=None, metadata={"help": "Write the figures to this JSON file."}
    )


def pooled(comparisons: list[str], *, method: str, reference: str) -> dict[str, Any]:
    """Compute the differences of all students that every comparison has.

    Args:
        comparisons: names of folders in `RESULTS`.
        method: the method.
        reference: the method that it is held against.

    Returns:
        The arguments, and under ``students`` for each student and metric: the scores of both methods, one for each
        training, those of their teachers, the means, how far these are below the teachers, and the mean difference with
        its interval and p-value.

    Raises:
        UserError: fewer than two comparisons are given, one has no records, no student was trained by both methods in
            all of them, two have the same seed of a student, or they were judged on different questions.
    """
    missing = [name for name in comparisons if not (RESULTS / name / RECORDS_NAME).is_file()]
    if len(comparisons) < 2 or missing:
        reason = f"{missing[0]} has no {RECORDS_NAME}" if missing else "--comparisons has fewer"
        raise UserError(f"two or more folders of {RESULTS} are taken together, but {reason}.")
    read = [read_records(RESULTS / name) for name in comparisons]
    students = [
        student
        for student in dict.fromkeys(record["student"] for record in read[0][0])
        if all(_pairs(records, student, method, reference) for records, _ in read)
    ]
    if not students:
        raise UserError(f"no student of these comparisons was trained by {method} and {reference}.")
    found = {student: _of_student(read, student, method, reference) for student in students}
    head = {"comparisons": comparisons, "method": method, "reference": reference}
    return {**head, "students": found}


def _of_student(
    read: list[tuple[list[Record], Scores]], student: str, method: str, reference: str
) -> dict[str, Any]:
    pairs = [
        (ours, theirs, scores)
        for records, scores in read
        for ours, theirs in _pairs(records, student, method, reference)
    ]
    seeds = [ours["seed"] for ours, _, _ in pairs]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"two comparisons have the same seed of {student}; the seeds are {seeds}.")
    signatures = {record["signature"] for pair in pairs for record in pair[:2]}
    sources = [scores[f"{student}/sources"] for _, _, scores in pairs]
    if len(signatures) > 1 or any((other != sources[0]).any() for other in sources):
        raise UserError(f"the trainings of {student} were judged on different questions.")
    return {"seeds": seeds, **{name: _of_metric(pairs, name, sources[0]) for name in METRICS}}


def _of_metric(
    pairs: list[tuple[Record, Record, Scores]], metric: str, sources: Any
) -> dict[str, Any]:
    gains = np.stack(
        [
            100 * (scores[f"{ours['name']}/{metric}"].astype(np.float64))
            - 100 * (scores[f"{theirs['name']}/{metric}"].astype(np.float64))
            for ours, theirs, scores in pairs
        ]
    )
    each = {
        "method": [ours[metric] for ours, _, _ in pairs],
        "reference": [theirs[metric] for _, theirs, _ in pairs],
        "teacher": [ours["teacher"][metric] for ours, _, _ in pairs],
    }
    means = {f"{name}_mean": statistics.mean(scores) for name, scores in each.items()}
    return {
        **each,
        **means,
        "method_below_teacher": means["teacher_mean"] - means["method_mean"],
        "reference_below_teacher": means["teacher_mean"] - means["reference_mean"],
        "gains": gains.mean(axis=1).tolist(),
        "difference": asdict(paired_bootstrap(gains, sources)),
    }


def _pairs(
    records: list[Record], student: str, method: str, reference: str
) -> list[tuple[Record, Record]]:
    """The trainings of a student by both methods, seed by seed."""
    by_seed = {
        (record["method"], record["seed"]): record
        for record in records
        if record["stage"] == "cells" and record["student"] == student
    }
    return [
        (record, by_seed[reference, seed])
        for (name, seed), record in by_seed.items()
        if name == method and (reference, seed) in by_seed
    ]


def main() -> None:
    (args,) = parser.parse([PooledArguments], description=__doc__)
    found = pooled(args.comparisons, method=args.method, reference=args.reference)
    for student, figures in found["students"].items():
        for name in METRICS:
            of_name, drawn = figures[name], figures[name]["difference"]
            print(
                f"{student} {name}: {args.method} {of_name['method_mean']:.2f}, "
                f"{args.reference} {of_name['reference_mean']:.2f}, difference {drawn['mean']:+.2f} "
                f"[{drawn['low']:+.2f}, {drawn['high']:+.2f}], p {drawn['p_value']:.3f}"
            )
    if args.output_file is not None:
        write_json(Path(args.output_file), found)


if __name__ == "__main__":
    process.run(main)
