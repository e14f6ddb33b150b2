"""A page about a run: the share of the teacher that the student kept, its training, and their disagreements.

`write_analysis` leaves the data of the page in the folder of a run. `write_report` reads that folder and nothing else.
"""

from __future__ import annotations

from pathlib import Path

from itrd_nlp.files import write_text
from itrd_nlp.publish.page import TaskPage

REPORT_NAME = "report.html"


def write_report(folder: str | Path, page: TaskPage | None = None) -> Path:
    """Write ``report.html`` into the folder of a run.

    One file that opens from the disk without a network. The same folder gives the same bytes.

    Args:
        folder: of the run. It holds ``results.json`` and, as far as they are known, the files of `write_analysis`.
            A file that is missing is left out, and the page says so.
        page: how the task names its groups of examples; default: by their keys.

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
    html = render(read_run(Path(folder)), TaskPage() if page is None else page)
    write_text(path, html)
    return path
