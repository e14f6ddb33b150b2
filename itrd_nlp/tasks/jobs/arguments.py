"""Arguments of the jobs that say which models they work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import COUNT, Range, check_values
from itrd_nlp.training.roles import Metadata

_DROPOUT = Range(least=0, most=1)
_ABOVE_0 = Range(above=0)
RUNTIMES = ("torch", "onnx", "int8", "int4")


@dataclass
class TeacherArguments:
    """The encoder to fine-tune."""

    model_name_or_path: str = field(metadata={"help": "Folder or model id of the encoder."})
    dropout: float | None = field(
        default=None,
        metadata=Metadata(
            help="Dropout of hidden states and attention. Default: that of the configuration.",
            range=_DROPOUT,
        ),
    )


@dataclass(kw_only=True)
class BudgetArguments:
    """The budget of the student. The time of each depth is measured on this machine, and the deepest student that fits
    is distilled."""

    speedup: float | None = field(
        default=None,
        metadata=Metadata(
            help="The student must be so many times as fast as its teacher in torch. Sets num_layers.",
            range=_ABOVE_0,
        ),
    )
    max_ms: float | None = field(
        default=None,
        metadata=Metadata(
            help="Most milliseconds for one example at batch size 1. Sets num_layers.",
            range=_ABOVE_0,
        ),
    )
    max_mb: float | None = field(
        default=None,
        metadata=Metadata(
            help="Most megabytes of the student's weights. Sets num_layers.", range=_ABOVE_0
        ),
    )
    budget_runtime: str = field(
        default="torch",
        metadata=Metadata(
            help="The form of the student whose time and size count: torch, or the ONNX file of `itrd-nlp export-onnx` "
            "in fp32, int8 or int4, on the CPU.",
            choices=RUNTIMES,
        ),
    )
    candidate_layers: list[int] = field(
        default_factory=list,
        metadata=Metadata(help="Depths to measure. Default: all below the teacher's.", range=COUNT),
    )

    @property
    def has_budget(self) -> bool:
        """Whether the depth of the student follows from a budget."""
        return any(value is not None for value in (self.speedup, self.max_ms, self.max_mb))

    def check_budget(self) -> None:
        """Refuse options of a budget where there is none.

        Raises:
            UserError: names the option.
        """
        check_values(self)
        if self.has_budget:
            return
        for name, given in (
            ("budget_runtime", self.budget_runtime != "torch"),
            ("candidate_layers", bool(self.candidate_layers)),
        ):
            if given:
                raise UserError(
                    f"{name} is set, but there is no budget; set speedup, max_ms or max_mb."
                )


@dataclass
class StudentArguments(BudgetArguments):
    """Teacher and student."""

    teacher: str = field(metadata={"help": "Folder or model id of the fine-tuned teacher."})
    student: str | None = field(
        default=None,
        metadata={
            "help": "Folder or model id to start the student from, in place of layers of the teacher."
        },
    )
    more_teachers: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Further teachers: logit KD learns from the mean of all predictions. Hidden states are those of "
            "teacher."
        },
    )
    num_layers: int = field(
        default=3,
        metadata=Metadata(
            help="Layers of the student, where it is made from the teacher and no budget sets them.",
            range=Range(least=1, whole=True),
        ),
    )
    student_init: list[str] = field(
        default_factory=lambda: ["first"],
        metadata={
            "help": "Teacher layers that the student starts from: first, uniform (3 of 12: 4 8 12), last, random "
            "(fresh weights), or the layers themselves."
        },
    )
    dropout: float | None = field(
        default=None,
        metadata=Metadata(
            help="Dropout of the student. Default: that of the configuration.", range=_DROPOUT
        ),
    )
