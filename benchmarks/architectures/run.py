"""Try every architecture of the installed transformers, and write the record and the page.

python -m benchmarks.architectures.run                   all, about half an hour on two cores
python -m benchmarks.architectures.run --only bert t5    these types anew, the others as recorded
    python -m benchmarks.architectures.run --missing         what a run that was stopped has left
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
from typing import Any

import torch
import transformers
from tqdm import tqdm

from benchmarks.architectures.outcomes import outcome
from benchmarks.architectures.page import PAGE, RECORD, write_page
from benchmarks.architectures.tiny import CANNOT, CannotBeMade, listed
from itrd_nlp.files import write_json
from itrd_nlp.training.results import environment


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="TYPE", help="Model types to try anew.")
    parser.add_argument(
        "--missing", action="store_true", help="Try those that the record lacks, or has a fault of."
    )
    args = parser.parse_args()
    outcomes = (
        json.loads(RECORD.read_text("utf-8"))["outcomes"] if args.only or args.missing else {}
    )
    chosen = [
        (head, name, class_name)
        for head, name, class_name in listed()
        if args.only is None or name in args.only
        if not args.missing or "fault" in outcomes.get(head, {}).get(name, {"fault": ""})
    ]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), _quiet) as pool:
        for head, model_type, found in tqdm(pool.imap(_one, chosen), total=len(chosen)):
            outcomes.setdefault(head, {})[model_type] = found
            _write(outcomes)  # so that a run that was stopped goes on by --missing
    faults = [
        f"{head}, {name}: {found['fault']}"
        for head, types in outcomes.items()
        for name, found in types.items()
        if "fault" in found
    ]
    print("\n".join(faults))
    return 1 if faults else 0


def _write(outcomes: dict[str, dict[str, Any]]) -> None:
    """Write record and page, in the order of transformers' lists."""
    ordered: dict[str, dict[str, Any]] = {}
    for head, name, _ in listed():
        if name in outcomes.get(head, {}):
            ordered.setdefault(head, {})[name] = outcomes[head][name]
    record = {
        "command": "python -m benchmarks.architectures.run",
        "seed": 0,
        "environment": environment(),
        "outcomes": ordered,
    }
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    write_json(RECORD, record)
    write_page(record, PAGE)


def _quiet() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  each trainer prints its log


def _one(entry: tuple[str, str, str]) -> tuple[str, str, dict[str, str]]:
    head, model_type, class_name = entry
    try:
        return head, model_type, outcome(model_type, class_name, head)
    except CannotBeMade as error:
        reason = CANNOT.get(model_type)
        return head, model_type, {"not tried": reason} if reason else {"fault": str(error)}
    except Exception as error:  # the run goes on, and its end names it
        return head, model_type, {"fault": f"{type(error).__name__}: {error}"[:300]}


if __name__ == "__main__":
    sys.exit(main())
