"""Train several methods under one budget and compare them: tables, intervals, figures.

    itrd-nlp compare minilm_subset [--jobs 2] [--output_dir DIR]
    itrd-nlp compare minilm_subset --submit slurm --slurm_partition gpu --slurm_gpus 1 --jobs 20

The YAML names a config of a distillation, which all share, and what each method changes of the objective. The config is
named from the current folder, from that of the YAML, or as a config of the package. What is finished is skipped, and
what was interrupted is taken up again. After a stop, give the same command. `--tables_only` makes tables and figures of
results.jsonl and scores.npz alone.
"""

import sys

from itrd_nlp.cli.parser import parse
from itrd_nlp.cli.process import command_line
from itrd_nlp.compare.arguments import CompareArguments, SubmitArguments


def main() -> None:
    args, submit = parse([CompareArguments, SubmitArguments], description=__doc__)
    from rich.console import Console

    from itrd_nlp.cli.comparison import setting_of  # --help does not need it
    from itrd_nlp.compare.comparison import compare
    from itrd_nlp.compare.runner import Stopped

    # -P: a file of this folder must not take the place of a library, as it does not under `itrd-nlp`.
    program = [sys.executable, "-P", "-m", "itrd_nlp"]
    try:
        outcome = compare(args, program, setting_of(args.task), Console(), submit)
    except Stopped as stop:
        print(f"stopped by {stop}. To go on: {command_line()}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    if outcome.table is not None:
        print(f"\n{outcome.table}\nTables and figures: {args.output_dir}")
    for failure in outcome.failures:
        print(failure, file=sys.stderr)
    for name in outcome.undecided:
        print(f"{name} was not trained: a try of its search failed.", file=sys.stderr)
    if outcome.failures:
        print(f"The same command tries again: {command_line()}", file=sys.stderr)
        sys.exit(1)
