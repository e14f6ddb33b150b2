"""A page about a run: what the student kept of its teacher, how it learned, where the two disagree.

`save_analysis` leaves in the folder of a run what the page needs, `write_report` reads that folder and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from itrd_nlp.files import write_text

REPORT_NAME = "report.html"


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` into the folder of a run.

    One file that opens from the disk without a network. The same folder gives the same bytes.

    Args:
        folder: It holds ``results.json`` and, as far as they are known, the files of `save_analysis`. What is not there
            is left out, and the page says so.

    Returns:
        The path of the report.

    Raises:
        UserError: there is no ``results.json``, or a file is not what it should be.

    Example:
        >>> write_report("runs/my_student")  # doctest: +SKIP
        PosixPath('runs/my_student/report.html')
    """
    from itrd_nlp.publish.report.data import read_run
    from itrd_nlp.publish.report.page import render

    path = Path(folder) / REPORT_NAME
    write_text(path, render(read_run(Path(folder))))
    return path
