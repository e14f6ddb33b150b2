"""`RunRecord`: a copy with other values has these values."""

from __future__ import annotations

from itrd_nlp.training.record import RunRecord


def test_changed_scores_take_the_place_of_the_old_ones(tmp_path) -> None:
    """In the file scores stand beside the other keys, so that the old ones could be left there."""
    record = RunRecord(version=3, metrics={"f1": "F1", "em": "EM"}, scores={"f1": 50.0, "em": 40.0})
    changed = record.changed(scores={"f1": 80.0, "em": 70.0})
    assert changed.scores == {"f1": 80.0, "em": 70.0}
    changed.write(tmp_path)
    again = RunRecord.read(tmp_path)
    assert again is not None and again.scores == changed.scores
    assert record.changed(questions=3).scores == record.scores
