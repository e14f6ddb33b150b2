"""The page shows the recorded figures of `load_pipeline`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForQuestionAnswering

import itrd_nlp
from benchmarks import answering
from benchmarks.harness import median

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_recorded_questions_per_second() -> None:
    record = json.loads((ROOT / "benchmarks" / "answering.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    section = page.partition("## Answers a second")[2].partition("## ")[0]
    shown = [line.rsplit("|", 3)[1:3] for line in section.splitlines() if line.startswith("| ")][1:]
    assert [[cell.strip() for cell in cells] for cells in shown] == [
        [f"{median(runs, 'questions_per_second'):.1f}", f"{median(runs, 'peak_megabytes'):,.1f}"]
        for runs in record["runs"].values()
    ]
    for name in ("batched / loop", "bf16 / loop"):
        found = record["ratios"][name]
        assert f"{found['median']:.2f}" in section
        assert f"{found['least']:.2f} to {found['most']:.2f}" in section
    stream = record["stream"]
    assert f"adds {stream['megabytes_after_a_tenth']:.0f} MB in its first tenth" in section
    assert f"and {stream['megabytes']:.0f} MB in all" in section


class Clock:
    """Says when it was read."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def perf_counter(self) -> float:
        self.events.append("clock")
        return float(len(self.events))


@pytest.mark.parametrize(
    ("candidate", "loaded"), [("loop", "model"), ("one", "pipeline"), ("batched", "pipeline")]
)
def test_nothing_is_loaded_while_the_clock_runs_or_for_another_candidate(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make_reader: Any,
    candidate: str,
    loaded: str,
) -> None:
    events: list[str] = []

    def told(name: str, load: Callable[..., Any]) -> Callable[..., Any]:
        def loads(*args: Any, **kwargs: Any) -> Any:
            events.append(name)
            return load(*args, **kwargs)

        return loads

    def save(folder: str, shape: str, layers: int) -> None:
        for part in make_reader(["rhine", "bonn", "where"], 1):
            part.save_pretrained(folder)

    answers = [{"text": "bonn", "answer_start": 6}]
    paragraph = {
        "context": "rhine bonn",
        "qas": [{"id": str(i), "question": "where", "answers": answers} for i in range(3)],
    }
    squad = tmp_path / "squad.json"
    squad.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [paragraph]}]}))
    monkeypatch.setattr(answering, "VALIDATION_FILE", str(squad))
    monkeypatch.setattr(answering, "saved_model", save)
    monkeypatch.setattr(answering, "time", Clock(events))
    monkeypatch.setattr(itrd_nlp, "load_pipeline", told("pipeline", itrd_nlp.load_pipeline))
    whole = told("model", AutoModelForQuestionAnswering.from_pretrained)
    monkeypatch.setattr(AutoModelForQuestionAnswering, "from_pretrained", whole)
    found = answering.measure(answering.AnsweringArguments(questions=3), candidate)
    assert found["questions_per_second"] == 3
    assert events[-4:] == ["clock"] * 4  # before and after the part that warms up, and the whole
    assert "clock" not in events[:-4]
    assert events[0] == loaded
    assert ("pipeline" in events) == (loaded == "pipeline")
