"""The files that a run leaves for its report, beside ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from itrd_nlp.files import write_json
from itrd_nlp.publish.report.data import (
    ANALYSIS_NAME,
    BREAKDOWN_NAME,
    DISAGREEMENTS_NAME,
    HISTORY_NAME,
    PREDICTIONS_NAME,
    SIMILARITY_NAME,
    TEACHER_PREDICTIONS_NAME,
)


def write_analysis(
    folder: str | Path,
    *,
    predictions: Mapping[str, Any],
    breakdown: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
    teacher_predictions: Mapping[str, Any] | None = None,
    similarity: Mapping[str, Any] | None = None,
    disagreements: Mapping[str, Any] | None = None,
) -> None:
    """Write the files that `write_report` reads into ``folder/analysis``, and the answers themselves.

    Args:
        folder: of the run.
        predictions: id of an example to the model's answer.
        breakdown: see `itrd_nlp.publish.report.data.Breakdown`.
        history: rows of ``trainer.state.log_history``.
        teacher_predictions: id of an example to the teacher's answer, where there is a teacher.
        similarity: the results of `layer_similarity` ``before`` and ``after`` the training, one of them or both.
        disagreements: see `itrd_nlp.publish.report.data.Disagreements`.
    """
    files = {
        HISTORY_NAME: history,
        PREDICTIONS_NAME: predictions,
        TEACHER_PREDICTIONS_NAME: teacher_predictions,
        SIMILARITY_NAME: similarity,
        BREAKDOWN_NAME: breakdown,
        DISAGREEMENTS_NAME: disagreements,
    }
    target = Path(folder) / ANALYSIS_NAME
    target.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is None:
            (target / name).unlink(missing_ok=True)  # that of another run
        else:
            write_json(target / name, content)
