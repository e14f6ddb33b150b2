"""Write report.html: how much the student of a run kept of its teacher, its training, and their disagreements.

    itrd-nlp report runs/my_student

The command reads the folder of the run alone: results.json and the files of analysis/. A run itself writes its report
at its end.
"""

import sys
from dataclasses import dataclass, field

from itrd_nlp.cli.parser import parse


@dataclass
class ReportArguments:
    """The run."""

    run: str = field(metadata={"help": "Folder of a finished run. --run may be left out."})


def main() -> None:
    arguments = sys.argv[1:]
    if arguments and not arguments[0].startswith("-"):
        arguments.insert(0, "--run")  # where other scripts take a config
    (args,) = parse([ReportArguments], arguments, description=__doc__)
    from itrd_nlp.tasks.jobs.report import write_report  # --help does not need it

    print(write_report(args.run))
