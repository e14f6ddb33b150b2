"""Read the folder of a run, and refuse a file that is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json
from itrd_nlp.training.record import RESULTS_NAME, RunRecord, validated

ANALYSIS_NAME = "analysis"
HISTORY_NAME = "history.json"
SIMILARITY_NAME = "similarity.json"
BREAKDOWN_NAME = "breakdown.json"
DISAGREEMENTS_NAME = "disagreements.json"
PREDICTIONS_NAME = "predictions.json"
TEACHER_PREDICTIONS_NAME = "teacher_predictions.json"

Percent = Annotated[float, Field(ge=0, le=100)]
Score = Annotated[float, Field(ge=-100, le=100)]  # a correlation may be negative
Count = Annotated[int, Field(ge=0, le=10**15)]
_HEADING = 300  # characters of a question above its answers
_LARGEST = 10**15  # of whole numbers; a chart has floats
Matrix = list[list[Annotated[float, Field(ge=0, le=1)]]]


def _numbers(extra: dict[str, Any] | None) -> dict[str, float]:
    """Those of the values that are numbers which a chart can show."""
    return {
        name: value
        for name, value in (extra or {}).items()
        if isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST)
    }


class LogRow(BaseModel):
    """A row of the trainer's log; `values` has what is a number."""

    model_config = ConfigDict(extra="allow")
    step: Count

    @property
    def values(self) -> dict[str, float]:
        return _numbers(self.model_extra)


class Matrices(BaseModel):
    """The result of `layer_similarity`."""

    tokens: Count
    cka: Matrix
    correlation: Matrix | None = None

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        for matrix in (self.cka, self.correlation):
            if matrix is not None and (
                not matrix or not matrix[0] or {len(row) for row in matrix} != {len(matrix[0])}
            ):
                raise ValueError("the rows of a matrix must be equally long and not empty")
        return self


class Similarity(BaseModel):
    before: Matrices | None = None
    after: Matrices | None = None


class Group(BaseModel):
    """The scores of some examples in percent, each under the name of its metric."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Score] = Field(init=False)
    questions: Count

    @property
    def scores(self) -> dict[str, float]:
        return dict(self.model_extra or {})


Groups = dict[str, dict[str, Group]]
"""A way to group the examples, such as ``question_type``, to the scores of each group."""


class Breakdown(BaseModel):
    """The scores of a model and of its teacher by groups of examples."""

    student: Groups
    teacher: Groups | None = None

    @model_validator(mode="after")
    def _same_groupings(self) -> Self:
        if self.teacher is not None:
            for name in self.student.keys() ^ self.teacher.keys():
                raise ValueError(f"{name} is missing, of one of the two models")
        return self

    @model_validator(mode="after")
    def _same_scores(self) -> Self:
        known: dict[str, set[str]] = {}
        for groups in (self.student, self.teacher or {}):
            for grouping, parts in groups.items():
                for name, group in parts.items():
                    scores = set(group.scores)
                    for score in known.setdefault(grouping, scores) ^ scores:
                        raise ValueError(
                            f"{grouping}.{name} has other scores than the first group: {score}"
                        )
        return self


class Answer(BaseModel):
    """An answer. Where the task has no F1 of a single answer it is right or wrong."""

    text: str
    exact_match: bool
    f1: Percent | None = None

    @property
    def right(self) -> bool:
        """Whether it is a true answer. The file calls it by the name that it had when there was one task."""
        return self.exact_match


class Reference(BaseModel):
    """A true answer, and the character of the context where it begins, if it stands there."""

    text: str
    start: Count | None = None


class Disagreement(BaseModel):
    """An example to which two models give different answers."""

    question: str
    context: str
    references: list[Reference]
    teacher: Answer
    student: Answer

    @property
    def heading(self) -> str:
        """The beginning of the question. That of a classifier is a whole text, perhaps of many pages."""
        if len(self.question) <= _HEADING:
            return self.question
        return f"{self.question[:_HEADING]} ..."

    @property
    def located(self) -> bool:
        """Whether answers are pieces of the context. A label is none, even if the context has the same word."""
        return any(reference.start is not None for reference in self.references)


class Disagreements(BaseModel):
    questions: Count
    teacher_right: Count
    student_right: Count
    both_right: Count
    neither_right: Count
    examples: list[Disagreement]

    @property
    def total(self) -> int:
        return self.teacher_right + self.student_right + self.both_right + self.neither_right

    @property
    def located(self) -> bool:
        """Whether answers of any example are pieces of its context."""
        return any(case.located for case in self.examples)


@dataclass
class Run:
    """All that a report is made of. None: the run has left no such file."""

    name: str
    record: RunRecord
    history: list[LogRow] | None
    similarity: Similarity | None
    breakdown: Breakdown | None
    disagreements: Disagreements | None


def read_run(folder: Path) -> Run:
    """Read the folder of a finished run.

    Raises:
        UserError: it is no such folder, or a file of it is not what it should be.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder, but a report is made of the folder of a run.")
    record = RunRecord.read(folder)
    if record is None:
        raise UserError(
            f"{folder} holds no {RESULTS_NAME}, so it is not the folder of a finished run."
        )
    missing = record.missing_score()
    if missing is not None:
        raise UserError(f"{folder / RESULTS_NAME}: {missing} is missing.")
    analysis = folder / ANALYSIS_NAME
    return Run(
        name=folder.resolve().name,
        record=record,
        history=_read(analysis / HISTORY_NAME, list[LogRow]),
        similarity=_read(analysis / SIMILARITY_NAME, Similarity),
        breakdown=_read(analysis / BREAKDOWN_NAME, Breakdown),
        disagreements=_read(analysis / DISAGREEMENTS_NAME, Disagreements),
    )


def _read(path: Path, kind: Any) -> Any:
    """The content of a JSON file, None where there is none."""
    if not path.is_file():
        return None
    return validated(path, kind, read_json(path))
