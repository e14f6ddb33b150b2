"""Write the report of a run anew."""

from __future__ import annotations

from pathlib import Path

from itrd_nlp.publish import report
from itrd_nlp.tasks import task_of


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` into the folder of a finished run of any task.

    Raises:
        UserError: it is no such folder, or a file of it is not what it should be.
    """
    page = task_of(folder).page if Path(folder).is_dir() else None
    return report.write_report(folder, page)
