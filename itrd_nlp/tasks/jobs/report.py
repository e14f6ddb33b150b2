"""Write the report of a run anew."""

from __future__ import annotations

from pathlib import Path

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_text
from itrd_nlp.publish import report
from itrd_nlp.tasks import task_of
from itrd_nlp.training.output_paths import check_target_file


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` into the folder of a finished run of any task.

    Raises:
        UserError: it is no such folder, a file of it is not what it should be, or somebody else has written its
            report.html.
    """
    page = None
    if Path(folder).is_dir():
        page = task_of(folder).page
        # A link is replaced: in a snapshot of the Hub's cache it leads to a file that other snapshots share.
        check_target_file(Path(folder) / report.REPORT_NAME, option="report", ours=_is_report)
    return report.write_report(folder, page)


def _is_report(path: Path) -> bool:
    try:
        return 'class="kicker"' in read_text(path)
    except UserError:
        return False
