"""`results.json`: the record that a run leaves, as one type.

The file is one flat JSON object. Scores stand beside the other keys, and ``metrics`` names them, so that a reader of
the file finds ``f1`` where it always was. Version 1 of the file had neither ``version`` nor ``metrics``. Before version
3, time and loss of a resumed training were those of its last part. All versions are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from itrd_nlp.errors import UserError
from itrd_nlp.files import parse_json, read_bytes, write_json

RESULTS_NAME = "results.json"
UNFINISHED_NAME = ".unfinished-run"
"""The record of a training that has not ended. Earlier versions wrote a sentence in its place."""
BUDGET_NAME = "budget.json"
"""The measurement by which a run has chosen the depth of its student."""
VERSION = 3

# The scores of version 1, which did not name them: those of a span head, else those of a classifier.
_VERSION_1 = ({"exact_match": "EM", "f1": "F1"}, {"accuracy": "accuracy", "f1": "F1"})

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
"""The form of the id of a data set on the Hub: a name, and perhaps the namespace before it."""

Score = Annotated[float, Field(ge=-100, le=100)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Setting = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]  # a larger one is no float any more
T = TypeVar("T")


class DataRecord(BaseModel):
    """The data of one split: a file by its name and sha256, a folder by its name, or a data set of the Hub by its id.

    Attributes:
        file: true of a file or a folder, whose name is no id of the Hub. Earlier versions recorded folders without it.
        subset: whether the source has more examples than were taken. None: not known, as in earlier versions.
        unanswerable: how many of the questions have no answer in their context; None where each has one.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    sha256: str | None = None
    file: bool | None = None
    subset: bool | None = None
    revision: str | None = None
    questions: Count | None = None
    unanswerable: Count | None = None
    rows: Count | None = None

    @property
    def examples(self) -> int | None:
        """The number of examples. Tasks call them questions or rows."""
        return self.questions if self.questions is not None else self.rows

    @property
    def is_local(self) -> bool:
        """Whether the data are a file or a folder.

        The records of earlier versions do not say it of folders. A path of several folders has the form of no id.
        """
        return self.sha256 is not None or bool(self.file) or HUB_ID.fullmatch(self.name) is None


class ConfigRecord(BaseModel):
    """The config file of a run."""

    name: str = ""
    text: str


class CandidateRecord(BaseModel):
    """A depth that a student might have had, as it was measured before the training.

    Attributes:
        layers: of the candidate.
        teacher_ms: milliseconds of the teacher in torch for one example at batch size 1, measured beside it.
        ms: the same of the candidate: ``torch``, and perhaps ``onnx``, ``int8`` and ``int4``.
        megabytes: size of its weights in each of these.
    """

    layers: Count
    teacher_ms: Positive
    ms: dict[str, Positive]
    megabytes: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]

    def speedup(self, runtime: str) -> float:
        """How many times as fast as the teacher in torch the candidate is."""
        return self.teacher_ms / self.ms[runtime]


def runtimes_of(candidates: Iterable[CandidateRecord]) -> list[str]:
    """Return the runtimes in which any of the candidates was measured. One that torch cannot export has torch alone."""
    return list(dict.fromkeys(runtime for candidate in candidates for runtime in candidate.ms))


class ModelRecord(BaseModel):
    """One model: its scores in percent, its size and its speed. Every field may be unknown.

    Attributes:
        scores: name of a metric to its value in percent, in the order of the run's ``metrics``.
        questions: number of examples it was judged on, where the task calls them questions; else `rows`.
        signature: digest of these examples and of how they are decoded. Equal signatures can be compared.
        data_digest: digest of all that the model has read of them: every column, and every token.
        weights: digest of its weights, see `itrd_nlp.training.identity.weights_digest`.
        ms_per_question: milliseconds for one example at batch size 1.
        perplexity: ``exp`` of its mean cross entropy in nats, where the task has one. It is no percentage, and the
            smaller, the better.
        megabytes_fp32: size of its weights in fp32, whatever they are stored in.
        megabytes: size of its weights as they are stored, where they are quantised.
        decoding: settings that were found for the model, such as ``null_score_diff_threshold``; they are fields of its
            ``config.json``, too. None where its task has none.
    """

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    base_model: str | None = None
    license: str | None = None
    scores: dict[str, Score] = {}
    questions: Count | None = None
    rows: Count | None = None
    eval_seconds: float | None = None
    signature: str | None = None
    data_digest: str | None = None
    weights: str | None = None
    layers: Count | None = None
    parameters: Count | None = None
    megabytes_fp32: float | None = None
    megabytes: float | None = None
    ms_per_question: float | None = None
    train_seconds: float | None = None
    perplexity: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    decoding: dict[str, Setting] | None = None

    @property
    def examples(self) -> int | None:
        """The number of examples that judged the model. Tasks call them questions or rows."""
        return self.questions if self.questions is not None else self.rows

    @property
    def stored_megabytes(self) -> float | None:
        """The size of its weights as they are stored."""
        return self.megabytes_fp32 if self.megabytes is None else self.megabytes


class QuantisedRecord(BaseModel):
    """How the weights of a model were quantised after its training.

    Attributes:
        weights: ``int8`` or ``int4``.
        library: that did it, and its version.
        trained_layers: how many linear layers have the values that a training in few bits saw. The others were rounded.
        same_answers: percent of the examples that have the same answer before and after.
        before: scores, size and speed of the model before, measured in turns with it.
        command: that was given.
    """

    weights: str
    library: str
    trained_layers: Count = 0
    same_answers: Score
    before: ModelRecord
    command: str | None = None


class RunRecord(ModelRecord):
    """The record of a run: its model, its teacher, and all that is known of how the model came about.

    Attributes:
        version: of the file; `VERSION` where it is written now.
        task: name of the task, None in version 1.
        metrics: name of a metric to its heading in tables.
        problem_type: as transformers calls what the labels of texts are, such as ``regression``; None of other labels.
        teacher: the teacher of a distillation, None of a model that was fine-tuned.
        method: the library that distilled, None for this one's own objective.
        layer_pairs: ``student layer:teacher layer``.
        train_loss: mean loss of all steps; see `knows_the_whole`.
        precision: of the training as it really ran: ``fp32``, ``bf16``, ``fp16`` or ``fp8``. Default: not recorded.
        objective: the arguments of the objective, those with their defaults, too; empty in version 1.
        arguments: every argument of the experiment that is not its default.
        candidates: the depths that a budget chose from; empty where there was none.
        quantised: how its weights were quantised after the training. None where they were not.

    Example:
        >>> record = RunRecord.read("runs/my_student")  # doctest: +SKIP
        >>> record.scores["f1"], record.teacher.scores["f1"]  # doctest: +SKIP
        (79.3, 81.5)
    """

    PAIR: ClassVar[str] = r"^\d{1,4}:\d{1,4}$"

    version: int = 1
    task: str | None = None
    metrics: dict[str, str] = {}
    problem_type: str | None = None
    teacher: ModelRecord | None = None
    more_teachers: list[ModelRecord] = []
    method: str | None = None
    layer_pairs: list[Annotated[str, Field(pattern=PAIR)]] = []
    datasets: dict[str, DataRecord] = {}
    steps: Count | None = None
    train_loss: float | None = None
    precision: str | None = None
    objective: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    candidates: list[CandidateRecord] = []
    quantised: QuantisedRecord | None = None
    command: str | None = None
    config: ConfigRecord | None = None
    environment: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_scores(cls, data: Any) -> Any:
        """Take the scores from between the other keys, of the model and of its teachers."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        metrics = data["metrics"] = recorded_metrics(data)
        data = _with_scores(data, metrics)
        data["teacher"] = _with_scores(data.get("teacher"), metrics)
        others = data.get("more_teachers", [])
        if isinstance(others, list):  # else the field says what it should be
            data["more_teachers"] = [_with_scores(other, metrics) for other in others]
        return data

    @classmethod
    def read(cls, folder: str | Path, name: str = RESULTS_NAME) -> Self | None:
        """Read the record in the folder of a run. It is None if there is none.

        Args:
            folder: of the run.
            name: of the file.

        Raises:
            UserError: the file is no JSON object, or a field of it makes no sense.
        """
        path = Path(folder) / name
        if not path.is_file():
            return None
        try:
            content = parse_json(read_bytes(path))
            if not isinstance(content, dict):
                raise ValueError("not an object")
        except UserError:  # it cannot be read at all
            raise
        except ValueError as error:
            raise UserError(
                f"{path}: {name} is no JSON object ({error}); delete it to measure again."
            ) from None
        return validated(path, cls, content)

    def write(self, folder: str | Path) -> None:
        """Write the record into the folder of a run, whole or not at all."""
        write_json(Path(folder) / RESULTS_NAME, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file. It leaves unknown fields out, and scores stand beside the other keys."""
        flat = _flat(self.model_dump(exclude_none=True, exclude={"teacher", "more_teachers"}))
        if self.teacher is not None:
            flat["teacher"] = _flat(self.teacher.model_dump(exclude_none=True))
        if self.more_teachers:
            others = [other.model_dump(exclude_none=True) for other in self.more_teachers]
            flat["more_teachers"] = [_flat(other) for other in others]
        if self.version == 1:
            del flat["version"], flat["metrics"]
        # A student without layer pairs is a fact; other empty fields say nothing.
        said = {"layer_pairs"} if self.teacher is not None else set()
        return {k: v for k, v in flat.items() if v not in ({}, []) or k in said}

    @property
    def knows_the_whole(self) -> bool:
        """Whether time and loss are those of the whole training, even if the training was resumed."""
        return self.version >= 3

    def missing_score(self) -> str | None:
        """Return the name of a metric whose score is missing. It is None if all scores are there."""
        return next((name for name in self.metrics if name not in self.scores), None)

    def changed(self, **changes: Any) -> Self:
        """Return a copy with other values, which are checked like those of a file."""
        return type(self).model_validate(self.as_json() | changes)


def recorded_metrics(data: Mapping[str, Any]) -> dict[str, str]:
    """Name of each metric in the content of a record to its heading. Version 1 of the file did not name them."""
    named = data.get("metrics") or _VERSION_1[1 if "accuracy" in data else 0]
    if not isinstance(named, Mapping):
        raise ValueError("metrics must be an object, name of a metric to its heading")
    return dict(named)


def counted(unit: str, number: int) -> dict[str, int]:
    """The field of a record for a number of examples: ``questions`` where the task calls them so, else ``rows``."""
    return {"questions" if unit == "questions" else "rows": number}


def validated(path: Path | str, kind: type[T], content: Any) -> T:
    """JSON content as a type.

    Args:
        path: the file it came from, and perhaps the line, for the message.
        kind: a pydantic model, or a list of one.
        content: the parsed content.

    Raises:
        UserError: names the file, the field and what the field should be.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # Scores stand in the file beside the other keys.
        field = ".".join(str(part) for part in first["loc"] if part != "scores")
        if first["type"] == "missing":
            raise UserError(f"{path}: {field} is missing.") from None
        # "Input should be a valid number", "Value error, the rows ..."
        reason = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        shown = f"{field} is {str(first['input'])[:60]!r}: " if field else ""
        raise UserError(f"{path}: {shown}{reason}.") from None


def _with_scores(data: Any, metrics: Mapping[str, str]) -> Any:
    if not isinstance(data, Mapping):
        return data
    flat = {name: data[name] for name in metrics if data.get(name) is not None}
    scores = data.get("scores", flat)  # those that stand beside it were true before a change
    return {key: value for key, value in data.items() if key not in metrics} | {"scores": scores}


def _flat(model: dict[str, Any]) -> dict[str, Any]:
    scores: dict[str, Any] = model.pop("scores", {})
    return scores | model
