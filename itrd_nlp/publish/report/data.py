"""Read the folder of a run, and refuse what is not what it should be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from itrd_nlp.errors import UserError

RESULTS_NAME = "results.json"
ANALYSIS_NAME = "analysis"
HISTORY_NAME = "history.json"
SIMILARITY_NAME = "similarity.json"
BREAKDOWN_NAME = "breakdown.json"
DISAGREEMENTS_NAME = "disagreements.json"

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]
Matrix = list[list[Annotated[float, Field(ge=0, le=1)]]]


class Evaluation(BaseModel):
    """What is known of one model. Only its scores must be there."""

    exact_match: Percent
    f1: Percent
    name: str | None = None
    questions: Count | None = None
    layers: Count | None = None
    parameters: Count | None = None
    megabytes_fp32: float | None = None
    ms_per_question: float | None = None
    train_seconds: float | None = None


class Config(BaseModel):
    name: str
    text: str


class Results(Evaluation):
    """``results.json``: the model of the run, its teacher, and how it came about."""

    teacher: Evaluation | None = None
    layer_pairs: list[Annotated[str, Field(pattern=r"^\d+:\d+$")]] = []
    arguments: dict[str, Any] = {}
    command: str | None = None
    config: Config | None = None
    environment: dict[str, str] = {}


class LogRow(BaseModel):
    """A row of the trainer's log; `values` has what is a number."""

    model_config = ConfigDict(extra="allow")
    step: Count

    @property
    def values(self) -> dict[str, float]:
        extra = self.model_extra or {}
        return {name: value for name, value in extra.items() if isinstance(value, int | float)}


class Matrices(BaseModel):
    """What `layer_similarity` returned."""

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
    """The scores of some questions."""

    questions: Count
    exact_match: Percent
    f1: Percent


class Groups(BaseModel):
    """The scores of one model by type of question and by length of the answer."""

    question_type: dict[str, Group]
    answer_length: dict[str, Group]


class Breakdown(BaseModel):
    student: Groups
    teacher: Groups | None = None


class Answer(BaseModel):
    text: str
    exact_match: bool
    f1: Percent


class Reference(BaseModel):
    text: str
    start: Count


class Disagreement(BaseModel):
    question: str
    context: str
    references: list[Reference]
    teacher: Answer
    student: Answer


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


@dataclass
class Run:
    """All that a report is made of. None: the run has left no such file."""

    name: str
    results: Results
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
    results = _read(folder / RESULTS_NAME, Results)
    if results is None:
        raise UserError(
            f"{folder} holds no {RESULTS_NAME}, so it is not the folder of a finished run."
        )
    analysis = folder / ANALYSIS_NAME
    return Run(
        name=folder.resolve().name,
        results=results,
        history=_read(analysis / HISTORY_NAME, list[LogRow]),
        similarity=_read(analysis / SIMILARITY_NAME, Similarity),
        breakdown=_read(analysis / BREAKDOWN_NAME, Breakdown),
        disagreements=_read(analysis / DISAGREEMENTS_NAME, Disagreements),
    )


def _read(path: Path, kind: Any) -> Any:
    """The content of a JSON file, None where there is none."""
    if not path.is_file():
        return None
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise UserError(f"{path}: {field} is missing.") from None
        # "Input should be a valid number", "Value error, the rows ...", "Invalid JSON: ..."
        reason = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        shown = f"{field} is {str(first['input'])[:60]!r}: " if field else ""
        raise UserError(f"{path}: {shown}{reason}.") from None
